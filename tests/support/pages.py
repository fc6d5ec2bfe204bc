"""What a report page holds."""

import html.parser

EVIL = "<img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}</script>"
"""A name that would run a script where it is not escaped."""


class Outline(html.parser.HTMLParser):
    """Tags with attributes, and what stands outside of them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
