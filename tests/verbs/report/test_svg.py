"""Charts as SVG."""

import re

from regraft.verbs.report.svg import Line, chart


class TestChart:
    def test_texts_are_escaped_and_numbers_finite(self):
        svg = chart(
            [Line("<b>a</b>", [(0, 1.0), (10, float("nan")), (20, 3.0)], [0.1, 0.1, 0.1])],
            title="<script>",
            description="&",
            floor=("floor", 0.5),
            mark=("kept", 20.0),
            root=True,
        )
        assert "<script>" not in svg
        assert "<b>" not in svg
        assert "nan" not in svg
        assert re.search(r'class="band c0"', svg)

    def test_too_few_points_are_no_chart(self):
        assert chart([Line("a", [(0, 1.0)])], title="t", description="d") == ""

    def test_a_constant_has_a_scale(self):
        assert "class=" in chart([Line("a", [(0, 0.0), (1, 0.0)])], title="t", description="d")
