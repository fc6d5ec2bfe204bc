"""Patterns of file names as shells have them: ``photos/*.jpg``, ``shard-{000000..000009}.tar``, ``{a,b}.npz``."""

import glob
import pathlib
import re

from regraft.core.errors import DataError

MOST = 100_000
"""Names that braces may stand for."""
_BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(text: str) -> bool:
    """Return whether a path is a pattern."""
    return glob.has_magic(text) or _BRACES.search(text) is not None


def split_part(text: str) -> tuple[str, str | None]:
    """Split ``pattern:part``; a text that is no pattern has no part here."""
    before, colon, part = text.rpartition(":")
    return (before, part) if colon and is_pattern(before) and not set(part) & set("/{}*?[]") else (text, None)


def fixed_part(pattern: str) -> pathlib.Path:
    """Return the folder that all files of a pattern lie in."""
    parts = pathlib.Path(pattern).parts
    fixed = next((k for k, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    return pathlib.Path(*parts[:fixed])


def expand(pattern: str) -> list[pathlib.Path]:
    """Return the files and folders that a pattern stands for, in the order of its braces and of their names.

    Raises:
        DataError: if one that its braces name is missing, nothing fits, or braces stand for too many names.
    """
    found: dict[pathlib.Path, None] = {}
    for name in _without_braces(pattern):
        if not glob.has_magic(name) or pathlib.Path(name).exists():
            if not pathlib.Path(name).exists():
                raise DataError(f"{pattern}: there is no {name}")
            found[pathlib.Path(name)] = None
        else:
            found |= dict.fromkeys(map(pathlib.Path, sorted(glob.glob(name, recursive=True))))  # noqa: PTH207 - a pattern may be absolute
    if not found:
        raise DataError(f"{pattern}: no file or folder of images is of this pattern")
    return list(found)


def _without_braces(pattern: str) -> list[str]:
    """Replace each pair of braces by what it stands for."""
    done, waiting = [], [pattern]
    while waiting:
        text = waiting.pop(0)
        braces = _BRACES.search(text)
        if braces is None:
            done.append(text)
            continue
        waiting = [text[: braces.start()] + inner + text[braces.end() :] for inner in _inner(pattern, braces[1])] + waiting
        if len(done) + len(waiting) > MOST:
            raise DataError(f"{pattern}: its braces stand for more than {MOST} names")
    return done


def _inner(pattern: str, content: str) -> list[str]:
    """Return what one pair of braces stands for: a range of numbers, with leading zeros if it has them, or a list."""
    numbers = _RANGE.fullmatch(content)
    if numbers is None:
        return content.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if abs(last - first) >= MOST:
        raise DataError(f"{pattern}: its braces stand for more than {MOST} names")
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    step = 1 if last >= first else -1
    return [str(number).zfill(width) for number in range(first, last + step, step)]
