"""Files of an archive as samples of webdataset: an image with its label in a file of the same name, or else as of a folder.

Source: the webdataset format (files that share the name before their first dot are one sample).
"""

import collections
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.core.errors import DataError
from regraft.core.names import printable
from regraft.data.containers._labels import NO_LABELS, Labels, read_labels
from regraft.data.containers.base import Asked, Files, list_files
from regraft.data.hidden import hidden_part
from regraft.data.images import ImageSet, Item
from regraft.data.kinds import is_known
from regraft.data.listing import Read

LABEL_SUFFIXES = ("cls", "json")
"""Suffixes of files that label the image beside them, the one that counts first."""
KEYS = ("label", "cls", "class", "class_id", "label_id", "category", "category_id", "target", "y", "class_name", "label_name")
"""Keys of a .json that hold a label, the likeliest first."""
MAX_LABEL = 1 << 20
"""Bytes of a file that holds a label."""


def list_samples(path: pathlib.Path, files: Files, asked: Asked) -> ImageSet:
    """List the images of an archive, with the labels of webdataset where it has these.

    Args:
        path: the archive.
        files: what it holds.
        asked: its part is the suffix of the images that are wanted, where samples hold several.

    Raises:
        DataError: if there are no images, or their labels cannot be read.
    """
    samples: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for name in files.names:
        folder, _, file = name.rpartition("/")
        stem, _, suffix = file.partition(".")
        if hidden_part(name) is None:
            samples[f"{folder}/{stem}"][suffix.lower()] = name
    images = {key: found for key, sample in samples.items() if (found := _images(sample))}
    labelled = [kind for kind in LABEL_SUFFIXES if any(kind in samples[key] for key in images)]
    if asked.part is None and not labelled:
        return list_files(path, files, asked)
    notes = list(files.notes)
    suffixes = collections.Counter(suffix for found in images.values() for suffix in found)
    if asked.part is not None:
        part = asked.part.lower().lstrip(".")
        images = {key: {part: found[part]} for key, found in images.items() if part in found}
        if not images:
            raise DataError(f"{path}: no images .{part}; it holds .{', .'.join(sorted(suffixes)) or 'no images'}")
    elif len(images) < sum(suffixes.values()):
        shown = ", ".join(f".{suffix} ({count})" for suffix, count in sorted(suffixes.items()))
        notes.append(f"samples hold several images, and all are used: {shown}; name one behind a colon, as in FILE:SUFFIX")
    keys = [(key, name) for key, found in sorted(images.items()) for name in found.values()]
    labels = _labels(str(path), [samples[key] for key, _ in keys], files.read, labelled if asked.labels is not False else ())
    kept = labels.kept(len(keys))
    if len(kept) < len(keys):
        first = keys[min(set(range(len(keys))) - set(kept))][1]
        notes.append(f"{len(keys) - len(kept)} of {len(keys)} images have no label and are left out, first: {first}")
    others = collections.Counter(suffix for sample in samples.values() for suffix in sample) - suffixes
    ignored = [f".{suffix} ({count})" for suffix, count in sorted(others.items()) if suffix not in labelled]
    if ignored:
        notes.append(f"not taken: {', '.join(ignored[:6])}{', ...' if len(ignored) > 6 else ''}")
    items = tuple(Item(printable(keys[i][1]), functools.partial(files.read, keys[i][1]), labels.of(i)) for i in kept)
    return ImageSet(printable(str(path)), items, labels.classes, (*notes, *labels.notes))


def _images(sample: Mapping[str, str]) -> dict[str, str]:
    """Return the images of one sample by their suffix."""
    return {suffix: name for suffix, name in sample.items() if is_known(name)}


def _labels(where: str, samples: Sequence[Mapping[str, str]], read: Read, kinds: Sequence[str]) -> Labels:
    """Read the label of each sample, from the first kind of file that gives any."""
    for kind in kinds:
        values = [_value(where, files[kind], read(files[kind]), kind) if kind in files else None for files in samples]
        if any(value is not None for value in values):
            return read_labels(values, len(values), f"{where}: labels of .{kind}", None)
    shown = ", ".join(KEYS[:5])
    return Labels(notes=(f"no labels: the .{kinds[0]} files hold none of the keys {shown}, ...",)) if kinds else NO_LABELS


def _value(where: str, name: str, data: bytes, kind: str) -> Any:
    """Return the label in one file, None if it holds none."""
    if len(data) > MAX_LABEL:
        raise DataError(f"{where}: {name} has {len(data)} bytes, more than a label needs")
    try:
        text = data.decode("utf-8").strip()
        if kind == "cls":
            return int(text) if text.isascii() and text.isdecimal() else text or None
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {name} is not a label that can be read ({' '.join(str(error).split())[:100]})") from None
    if isinstance(content, dict):
        content = next((content[key] for key in KEYS if key in content), None)
    return content if isinstance(content, str | int | float | list) else None
