"""Names of files and classes as text that can be shown and stored everywhere, whatever bytes they are made of."""

import os
import re
import unicodedata

_SEPARATORS = "\u2028\u2029"


def printable(name: str) -> str:
    r"""Return a name as text that every terminal, log and record can hold.

    Bytes that are no UTF-8 (Python keeps them as surrogates) and control characters become escapes: the Latin-1 file
    ``caf<E9>.png`` becomes ``caf\xe9.png``.  Everything else is brought to Unicode's composed form (NFC), so that one name is
    one text: macOS writes an umlaut as two characters, other systems as one.
    """
    if name.isascii() and name.isprintable():
        return name
    text = unicodedata.normalize("NFC", storable(name))
    return "".join(_escape(c) if unicodedata.category(c) == "Cc" or c in _SEPARATORS else c for c in text)


def storable(path: str) -> str:
    r"""Return a path as text that files in UTF-8 can hold: bytes that are no UTF-8 are escaped, and all else stays as it is."""
    try:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return path.encode("utf-8", "backslashreplace").decode("utf-8")


def restored(text: str) -> str:
    r"""Return the path of which :func:`storable` made a text.

    It is a guess, for a file may really be called ``caf\xe9.png``: ask first whether that one is there.
    """
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda match: chr(0xDC00 + int(match[1], 16)), text)


def existing(path: str) -> str:
    """Return a path, or the one of which :func:`storable` made it if only that is there."""
    original = restored(path)
    return original if original != path and not os.path.lexists(path) and os.path.lexists(original) else path


def _escape(character: str) -> str:
    """Return a character as its escape."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
