"""Tables of Hugging Face data sets: which column holds images, which one labels, and what the classes are called.

Source: the ``datasets`` library: an image is a struct of ``bytes`` and ``path``, and the schema's metadata describe the columns
under the key ``huggingface``.
"""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.core.errors import DataError
from regraft.data.containers._choice import IMAGE_NAMES, LABEL_NAMES, split_and_kind
from regraft.data.containers.base import Asked

MORE_IMAGE_NAMES = ("jpg", "jpeg", "png", "webp", "bytes", "picture", "photo")
MORE_LABEL_NAMES = ("category", "classname", "labelname", "cls", "classlabel", "finelabel", "coarselabel")
MAX_ROWS = 100_000_000


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table that are used.

    Attributes:
        image: name of the column of images.
        nested: whether it holds structs, with the picture under ``bytes``.
        label: name of the column of labels, or None.
        names: of the classes, in the order of their numbers.
        notes: what was left out.
    """

    image: str
    nested: bool
    label: str | None
    names: tuple[str, ...]
    notes: tuple[str, ...]


def import_arrow(path: pathlib.Path, module: str) -> Any:
    """Import a part of pyarrow, when a file needs it.

    Raises:
        DataError: saying how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(f"{path}: reading it needs pyarrow; install it with pip install regraft[data]") from None


def choose_columns(path: pathlib.Path, schema: Any, asked: Asked) -> Columns:
    """Choose the column of images and that of labels.

    Args:
        path: the file, for errors.
        schema: the table's, of pyarrow.
        asked: its part names a column of images or of labels.

    Raises:
        DataError: if there is no such column, or none of images.
    """
    features = _features(schema.metadata)
    types = {field.name: field.type for field in schema}
    images = [name for name, kind in types.items() if _is_nested(kind) or _is_image(name, kind, features)]
    labels = [name for name, kind in types.items() if name not in images and _is_label(name, kind, features)]
    if asked.part is not None and asked.part not in (*images, *labels):
        raise DataError(f"{path}: no column {asked.part} of images or labels; {_columns(types)}")
    if not images:
        raise DataError(f"{path}: no column of images, which are the bytes of picture files; {_columns(types)}")
    image = min(images, key=lambda name: (name != asked.part, _rank(name, (*IMAGE_NAMES, *MORE_IMAGE_NAMES))))
    label = min(labels, key=lambda name: (name != asked.part, _rank(name, LABEL_NAMES)), default=None)
    notes = [] if asked.part in images else _about_others("images", image, images)
    if label and asked.part not in labels and asked.labels is not False:
        notes += _about_others("labels", label, labels)
    found = features.get(label, {}).get("names", ()) if label else ()
    names = tuple(map(str, found)) if isinstance(found, list) else ()
    return Columns(image, _is_nested(types[image]), label if asked.labels is not False else None, names, tuple(notes))


def class_numbers(values: Sequence[Any]) -> list[Any]:
    """Return the labels of a column, with None for -1, by which these data sets say that a label is not known."""
    return [None if value == -1 and isinstance(value, int) else value for value in values]


def check_rows(path: pathlib.Path, rows: int, limit: int) -> None:
    """Refuse a table with more rows than its size explains.

    Raises:
        DataError: if there are none, or too many.
    """
    if not 0 < rows <= min(MAX_ROWS, limit // 8):
        raise DataError(f"{path}: has {rows} rows, and a file of its size has 1 to {min(MAX_ROWS, limit // 8)}; get it again")


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Return what the metadata say of each column; nothing if they are not those of Hugging Face."""
    try:
        found = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def _is_binary(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_nested(kind: Any) -> bool:
    """Return whether a type is a struct with pictures under ``bytes``."""
    return str(kind).startswith("struct<") and any(
        kind.field(i).name == "bytes" and _is_binary(kind.field(i).type) for i in range(kind.num_fields)
    )


def _is_image(name: str, kind: Any, features: Mapping[str, Mapping[str, Any]]) -> bool:
    named = split_and_kind(name)[1] in (*IMAGE_NAMES, *MORE_IMAGE_NAMES)
    return _is_binary(kind) and (named or features.get(name, {}).get("_type") == "Image")


def _is_label(name: str, kind: Any, features: Mapping[str, Mapping[str, Any]]) -> bool:
    if features.get(name, {}).get("_type") == "ClassLabel":
        return True
    plain = str(kind).startswith(("int", "uint", "string", "large_string", "bool", "dictionary<"))
    return plain and split_and_kind(name)[1] in (*LABEL_NAMES, *MORE_LABEL_NAMES)


def _about_others(what: str, taken: str, names: Sequence[str]) -> list[str]:
    """Say which other columns there are."""
    others = [name for name in names if name != taken]
    choose = f"name one behind a colon, as in FILE:{others[0]}" if others else ""
    return [f"{what} are those of the column {taken}, and not of {', '.join(others)}; {choose}"] if others else []


def _rank(name: str, likely: Sequence[str]) -> int:
    kind = split_and_kind(name)[1]
    return likely.index(kind) if kind in likely else len(likely)


def _columns(types: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name} ({str(kind)[:40]})" for name, kind in list(types.items())[:8])
    return f"it has {shown or 'no columns'}"
