"""The verb ``encode``: encode images into one codes file, once; a stopped run can be resumed."""

import dataclasses
import functools
import hashlib
import pathlib
import shutil
import zipfile
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from regraft.core.device import device_of, pick_device
from regraft.core.errors import ConfigError, DataError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import Autoencoder
from regraft.data import codes
from regraft.data.codes import Codes
from regraft.data.given_labels import GivenLabels
from regraft.data.images import ImageSet, Item
from regraft.data.pixels import Content, Depths, Fit, UnreadableImage
from regraft.runs import adapter
from regraft.verbs import _published
from regraft.verbs._arguments import Emit, ImagesArgument, Source, ignore_event, list_images, teller
from regraft.verbs.load import load

OnBad = Literal["error", "skip"]

CHUNK = 256
"""Images that are encoded between two writes."""
OTHER_IMAGES = "{}: holds codes of other images than {}, of which it knows none; choose another --out, or remove it"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The result of encoding.

    Attributes:
        path: the codes file.
        codes: all codes.
        computed: number of images encoded now.
        reused: number of images whose codes existed before.
        notes: what was converted or left out, one sentence each.
    """

    path: pathlib.Path
    codes: Codes
    computed: int
    reused: int
    notes: tuple[str, ...] = ()


def encode(
    source: Source,
    images: ImagesArgument,
    out: str | pathlib.Path,
    *,
    batch: int = 32,
    device: str = "auto",
    fit: Fit = "crop",
    on_bad: OnBad = "error",
    labels: GivenLabels | None = None,
    on_event: Emit | None = None,
) -> Encoded:
    """Encode images into a codes file.

    Finished parts are kept beside ``out`` until all is done, so that a stopped run can be resumed.  An image is encoded again
    only if its content has changed; if none has, no image is read and nothing is written.  Codes of another autoencoder, of
    another ``fit`` or of entirely other images are not replaced.

    Args:
        source: a GAN with an autoencoder.
        images: a path, or images in memory as :func:`regraft.open_images` takes them; or a folder of the pickled codes that
            the authors of Mind2Mind published.
        out: codes file to write, ending in .safetensors; a JSON of the same name goes beside it.
        batch: images per pass through the encoder; changes speed only.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        fit: how images of another aspect ratio are fitted: ``crop``, ``pad`` or ``stretch``.
        on_bad: whether an unreadable image is an ``error`` or is left out (``skip``).
        labels: the class of each image, numbers or names in the order of the images.
        on_event: called after each part.

    Returns:
        The codes, and how many of them were computed now.

    Raises:
        ConfigError: if ``out`` exists and does not hold codes of this autoencoder, of this fit and of some of these images.
        MissingCapability: if the source has no autoencoder.
        DataError: naming images that cannot be read.
    """
    path = pathlib.Path(out)
    if path.suffix != ".safetensors":
        raise ConfigError(f"{path}: codes are written as .safetensors, with a .json beside it")
    if path.exists() and not codes.is_codes(path):
        raise ConfigError(f"{path}: exists and is no codes file; choose another --out")
    gan = source if isinstance(source, GAN) else load(source)
    autoencoder = gan.require("autoencoder", for_="encode")
    record = _record(gan, autoencoder, fit)
    if isinstance(images, str | pathlib.Path) and _published.is_code_folder(pathlib.Path(images)):
        return _import_codes(pathlib.Path(images), path, record, autoencoder)
    emit = on_event or ignore_event
    listed = list_images(images, teller(emit), labels=labels)
    encoding = _Encoding(listed, path, record, autoencoder, fit, on_bad, emit)
    target_device, own_device = pick_device(device), device_of(autoencoder)
    try:
        autoencoder.to(target_device)
        return encoding.run(batch)
    finally:
        autoencoder.to(own_device)


def _record(gan: GAN, autoencoder: Autoencoder, fit: str) -> dict[str, Any]:
    """Describe how codes are made, as the codes file holds it."""
    height, width = autoencoder.size
    return {
        "autoencoder_digest": tensor_digest(autoencoder),
        "code_shape": list(autoencoder.code_shape),
        "code_range": autoencoder.code_range,
        "source": adapter.source_record(gan),
        "fit": fit,
        "image": {"height": height, "width": width, "channels": autoencoder.channels, "range": [-1, 1]},
    }


@dataclasses.dataclass
class _Row:
    """One image's code.

    Attributes:
        stamp: size and time or checksum of the image's file, as :func:`stamps_of` gives it.
        digest: SHA-256 of the image's content.
        code: (D,).
    """

    stamp: str
    digest: str
    code: Tensor


class _Encoding:
    """Encode a set of images, reusing codes that a codes file or the parts of a stopped run hold."""

    def __init__(
        self,
        listed: ImageSet,
        path: pathlib.Path,
        record: dict[str, Any],
        autoencoder: Autoencoder,
        fit: Fit,
        on_bad: OnBad,
        emit: Emit,
    ) -> None:
        self.listed, self.path, self.record, self.autoencoder = listed, path, record, autoencoder
        self.fit, self.on_bad, self.emit = fit, on_bad, emit
        self.parts = path.with_suffix(".parts")
        self.rows: dict[str, _Row] = {}
        self.by_content: dict[str, Tensor] = {}
        self.computed = 0
        self.notes: list[str] = list(listed.notes)

    def run(self, batch: int) -> Encoded:
        """Reuse known codes, encode the other images, and write the codes file if anything changed."""
        stamps = stamps_of(self.listed)
        previous = self._reuse(stamps)
        known = {(name, row.stamp) for name, row in self.rows.items()}
        todo = [(i, s) for i, s in zip(self.listed.items, stamps, strict=True) if (i.name, s) not in known]
        for start in range(0, len(todo), CHUNK):
            self._encode_chunk(todo[start : start + CHUNK], batch)
            self.emit({"event": "encoded", "done": min(start + CHUNK, len(todo)), "of": len(todo)})
        result = self._collect()
        if previous is None or not _equal(previous, result):
            codes.write(self.path, result)
        codes.describe(self.path, result)
        shutil.rmtree(self.parts, ignore_errors=True)
        return Encoded(self.path, result, self.computed, result.n - self.computed, tuple(dict.fromkeys(self.notes)))

    def _reuse(self, stamps: Sequence[str]) -> Codes | None:
        """Take the codes of the codes file and of the parts of a stopped run; return the codes of the file, if it exists.

        Raises:
            ConfigError: if they are of another autoencoder or of other images.
        """
        previous = codes.read(self.path) if self.path.exists() else None
        known = [] if previous is None else [(self.path, previous)]
        for part in sorted(self.parts.glob("*.safetensors")) if self.parts.is_dir() else ():
            try:
                known.append((self.parts, codes.read(part)))
            except DataError:
                continue  # cut short by the stop; its images are encoded again
        for where, part_codes in known:
            record = part_codes.record
            _check_alike(where, record, self.record)
            for name, stamp, digest, code in zip(
                part_codes.names, record["stamps"], record["digests"], part_codes.values, strict=True
            ):
                self._add(name, _Row(stamp, digest, code))
        if known and not self._knows_any(stamps):
            raise ConfigError(OTHER_IMAGES.format(known[0][0], self.listed.where))
        return previous

    def _knows_any(self, stamps: Sequence[str]) -> bool:
        """Return whether any of the images has a code, by its name and stamp or by its content."""
        if any(i.name in self.rows and self.rows[i.name].stamp == s for i, s in zip(self.listed.items, stamps, strict=True)):
            return True
        return any(_digest(_read(item)) in self.by_content for item in self.listed.items)

    def _add(self, name: str, row: _Row) -> None:
        self.rows[name] = row
        self.by_content[row.digest] = row.code

    def _encode_chunk(self, todo: Sequence[tuple[Item, str]], batch: int) -> None:
        """Encode some images, given with their stamps, and write their codes as a part."""
        unknown: list[tuple[Item, str, str]] = []
        new_rows: list[tuple[str, _Row]] = []
        for item, stamp in todo:
            self.rows.pop(item.name, None)  # the code of what the image was before
            content = _read(item)
            digest = _digest(content)
            if digest in self.by_content:
                new_rows.append((item.name, _Row(stamp, digest, self.by_content[digest])))
            else:
                unknown.append((dataclasses.replace(item, read=functools.partial(_return, content)), stamp, digest))
        code_of = self._encode([item for item, _, _ in unknown], batch)
        new_rows += [(i.name, _Row(stamp, digest, code_of[i.name])) for i, stamp, digest in unknown if i.name in code_of]
        for name, row in new_rows:
            self._add(name, row)
        if new_rows:
            names, rows = zip(*new_rows, strict=True)
            part = Codes(torch.stack([r.code for r in rows]), tuple(names), record=self.record | _origin_of(rows))
            number = len(list(self.parts.glob("*.safetensors"))) if self.parts.is_dir() else 0
            codes.write(self.parts / f"{number:06d}.safetensors", part)

    def _encode(self, items: Sequence[Item], batch: int) -> dict[str, Tensor]:
        """Encode images; return the code of each by its name, without those that are skipped because they are unreadable."""
        if not items:
            return {}
        listed = ImageSet(self.listed.where, tuple(items))
        if listed.measured().depths != Depths():
            self.listed = self.listed.measured()  # grey values of more than 8 bits are scaled alike in all parts
            listed = dataclasses.replace(listed, depths=self.listed.depths)
        try:
            images = listed.decode(self.autoencoder.size, self.autoencoder.channels, self.fit, self.on_bad)
        except DataError as error:
            if self.on_bad == "error":
                raise
            self.notes.append(str(error))
            return {}
        self.notes += images.notes
        self.computed += images.n
        return dict(zip(images.names, codes.encode_images(self.autoencoder, images.tensor(), batch), strict=True))

    def _collect(self) -> Codes:
        """Put the codes of all images together, in the images' order."""
        items = [item for item in self.listed.items if item.name in self.rows]
        if not items:
            raise DataError(f"{self.listed.where}: none of its images can be read")
        rows = [self.rows[item.name] for item in items]
        labels = torch.tensor([item.label for item in items]) if self.listed.classes else None
        names, values = tuple(item.name for item in items), torch.stack([row.code for row in rows])
        return Codes(values, names, labels, self.listed.classes, record=self.record | _origin_of(rows))


def _origin_of(rows: Sequence[_Row]) -> dict[str, Any]:
    """Return what codes were made from, as the codes file holds it."""
    return {"stamps": [row.stamp for row in rows], "digests": [row.digest for row in rows]}


def _read(item: Item) -> Content | UnreadableImage:
    """Return the content of an image's file, or the error if it cannot be read."""
    try:
        return item.read()
    except UnreadableImage as error:
        return error


def _return(content: Content | UnreadableImage) -> Content:
    """Return a content that was read before, or raise the error that reading it gave."""
    if isinstance(content, UnreadableImage):
        raise content
    return content


def _digest(content: Content | UnreadableImage) -> str:
    """Return the SHA-256 of an image's content; empty if it cannot be read."""
    if isinstance(content, UnreadableImage):
        return ""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    kind, array = ("", content) if isinstance(content, np.ndarray) else (content.mode, np.asarray(content))
    return hashlib.sha256(f"{kind}{array.shape}|{array.dtype}".encode() + array.tobytes()).hexdigest()


def stamps_of(listed: ImageSet) -> list[str]:
    """Return for each image a stamp that changes with its content.

    It is made without reading the image where that is possible: size and time of a file, checksum in a zip.
    """
    text, _, _ = listed.where.partition(".npz:")
    where = pathlib.Path(text)
    stamps: dict[str, str] = {}
    if where.is_dir():
        stats = {item.name: (where / item.name).stat() for item in listed.items if (where / item.name).is_file()}
        stamps = {name: f"{s.st_size}:{s.st_mtime_ns}" for name, s in stats.items()}
    elif where.is_file() and zipfile.is_zipfile(where):
        with zipfile.ZipFile(where) as archive:
            stamps = {entry.filename: f"{entry.file_size}:{entry.CRC:08x}" for entry in archive.infolist()}
    found = (stamps.get(item.name) or stamps.get(item.name.partition("[")[0] + ".npy") for item in listed.items)
    return [stamp or f"sha256:{_digest(_read(item))}" for item, stamp in zip(listed.items, found, strict=True)]


def _check_alike(where: pathlib.Path, record: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that codes were made as the new ones will be.

    Args:
        where: the codes file or the folder of parts, for the error.
        record: how its codes were made.
        expected: how the new codes will be made.

    Raises:
        ConfigError: naming the difference.
    """
    difference = None
    if record.get("autoencoder_digest") != expected["autoencoder_digest"]:
        difference = (
            f"codes of another autoencoder: {(record.get('source') or {}).get('name')}, digest "
            f"{str(record.get('autoencoder_digest'))[:16]}, and this one's is {expected['autoencoder_digest'][:16]}"
        )
    elif record.get("imported") != expected.get("imported"):
        difference = "codes imported from pickles" if record.get("imported") else "codes of images, not imported ones"
    elif not record.get("imported") and not {"stamps", "digests"} <= record.keys():
        difference = "codes that do not say which images they are of"
    elif keys := [k for k in ("fit", "image") if record.get(k) != expected[k]]:
        difference = " and ".join(f"codes of images with {k} {record.get(k)}, not {expected[k]}" for k in keys)
    if difference is not None:
        raise ConfigError(f"{where}: holds {difference}; choose another --out, or remove it")


def _equal(a: Codes, b: Codes) -> bool:
    """Return whether two sets of codes are equal, and made in the same way from the same images."""
    keys = ("stamps", "digests", "autoencoder_digest", "fit", "image", "source")
    same_origin = all(a.record.get(k) == b.record.get(k) for k in keys)
    return same_origin and (a.names, a.classes, a.digest) == (b.names, b.classes, b.digest)


def _import_codes(folder: pathlib.Path, path: pathlib.Path, record: dict[str, Any], autoencoder: Autoencoder) -> Encoded:
    """Import codes pickled by the Mind2Mind authors, assuming that this autoencoder made them."""
    names, values = _published.read_code_folder(folder)
    code_dim = int(torch.Size(autoencoder.code_shape).numel())
    if values.shape[1] != code_dim:
        raise DataError(f"{folder}: its codes have {values.shape[1]} numbers, this source's have {code_dim}")
    result = Codes(values, names, record=record | {"imported": True})
    if path.exists():
        previous = codes.read(path)
        _check_alike(path, previous.record, result.record)
        if _named_codes(previous).isdisjoint(_named_codes(result)):
            raise ConfigError(OTHER_IMAGES.format(path, folder))
        if _equal(previous, result):
            codes.describe(path, result)
            return Encoded(path, result, 0, result.n)
    codes.save(path, result)
    note = "codes imported from pickles, which do not say which autoencoder made them: they are taken to be this source's"
    return Encoded(path, result, 0, result.n, (note,))


def _named_codes(some: Codes) -> set[tuple[str, bytes]]:
    """Return the name and the bytes of each code."""
    return {(name, code.numpy().tobytes()) for name, code in zip(some.names, some.values, strict=True)}
