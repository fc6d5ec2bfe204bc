"""Names that systems and programs keep for themselves, beside images and never as images."""

_SYSTEM = {
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
}


def is_hidden(part: str) -> bool:
    """Return whether one part of a path is hidden, or is a folder that systems make (of a Mac, a NAS, Windows, Python).

    Hidden names begin with a dot: among them are ``.ipynb_checkpoints``, ``.git``, and the ``._`` files that a Mac puts beside
    others.
    """
    return (part.startswith(".") and part not in (".", "..")) or part.lower() in _SYSTEM


def hidden_part(name: str) -> str | None:
    """Return the part of a name, from its beginning, that ends with its first hidden part; None if it has none."""
    parts = name.split("/")
    for k, part in enumerate(parts):
        if is_hidden(part):
            return "/".join(parts[: k + 1])
    return None
