"""Digests of files."""

import hashlib
import pathlib


def sha256(path: pathlib.Path) -> str:
    """SHA-256 digest of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
