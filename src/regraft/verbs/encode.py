"""The verb ``encode``: images through an autoencoder into one codes file, in batches, resumable, nothing done twice."""

import dataclasses
import hashlib
import pathlib
import shutil
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.device import device_of, pick_device
from regraft.core.errors import ConfigError, DataError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import Autoencoder
from regraft.data import codes
from regraft.data.codes import Codes
from regraft.data.images import Images, ImageSet, Item
from regraft.data.opening import open_images
from regraft.data.pixels import Fit, Pixels, UnreadableImage
from regraft.runs import adapter
from regraft.verbs import _published
from regraft.verbs.load import load

CHUNK = 256
OTHER_IMAGES = "{}: holds codes of other images than {}, of which it knows none; choose another --out, or remove it"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What encoding did.

    Attributes:
        path: the codes file.
        codes: all codes.
        computed: images encoded now.
        reused: images whose codes were there before.
        notes: what was converted or left out.
    """

    path: pathlib.Path
    codes: Codes
    computed: int
    reused: int
    notes: tuple[str, ...] = ()


def encode(
    source: GAN | str | pathlib.Path,
    images: str | pathlib.Path | ImageSet,
    out: str | pathlib.Path,
    *,
    batch: int = 32,
    device: str = "auto",
    fit: Fit = "crop",
    on_bad: Literal["error", "skip"] = "error",
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Encoded:
    """Encode images once.

    Finished parts are kept beside ``out`` until all is done, so that a stopped run goes on where it was.  An image is encoded
    again only if its content has changed; if none has, no image is read and nothing is written.  Codes of another autoencoder,
    of another ``fit`` or of other images altogether are not replaced.

    Args:
        source: a GAN with an autoencoder.
        images: a folder, .zip or .npz; or a folder of the pickled codes that the authors of Mind2Mind wrote.
        out: codes file to write, ending in .safetensors; a JSON of the same name goes beside it.
        batch: images per pass through the encoder; changes speed only.
        device: where to compute.
        fit: what happens to images of another aspect ratio.
        on_bad: whether an unreadable image is an error or left out.
        on_event: told of progress.

    Raises:
        ConfigError: if ``out`` is something else than codes of this autoencoder, fitted alike, of at least one of the images.
        MissingCapability: if the source has no autoencoder.
        DataError: naming unreadable images.
    """
    path = pathlib.Path(out)
    if path.suffix != ".safetensors":
        raise ConfigError(f"{path}: codes are written as .safetensors, with a .json beside it")
    if path.exists() and not codes.is_codes(path):
        raise ConfigError(f"{path}: exists and is no codes file; choose another --out")
    gan = source if isinstance(source, GAN) else load(source)
    autoencoder: Autoencoder = gan.require("autoencoder", for_="encode")
    record = _record(gan, autoencoder, fit)
    if not isinstance(images, ImageSet) and _published.is_code_folder(pathlib.Path(images)):
        return _imported(pathlib.Path(images), path, record, autoencoder)
    listed = images if isinstance(images, ImageSet) else open_images(images)
    work = _Work(listed, path, record, autoencoder, fit, on_bad, on_event or (lambda event: None))
    wanted = pick_device(device)
    before = device_of(autoencoder)
    try:
        autoencoder.to(wanted)
        return work.run(batch)
    finally:
        autoencoder.to(before)


def _record(gan: GAN, autoencoder: Autoencoder, fit: str) -> dict[str, Any]:
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
    """One image's code and what it was made from."""

    stamp: str
    digest: str
    code: Tensor


class _Work:
    """One encoding."""

    def __init__(
        self,
        listed: ImageSet,
        path: pathlib.Path,
        record: dict[str, Any],
        autoencoder: Autoencoder,
        fit: Fit,
        on_bad: Literal["error", "skip"],
        emit: Callable[[dict[str, Any]], None],
    ) -> None:
        self.listed, self.path, self.record, self.autoencoder = listed, path, record, autoencoder
        self.fit, self.on_bad, self.emit = fit, on_bad, emit
        self.parts = path.with_suffix(".parts")
        self.rows: dict[str, _Row] = {}
        self.by_content: dict[str, Tensor] = {}
        self.computed = 0
        self.notes: list[str] = []

    def run(self, batch: int) -> Encoded:
        """Reuse what is known, encode the rest, write what changed."""
        stamps = stamps_of(self.listed)
        before = self._remembered(stamps)
        known = {(name, row.stamp) for name, row in self.rows.items()}
        todo = [(i, s) for i, s in zip(self.listed.items, stamps, strict=True) if (i.name, s) not in known]
        for start in range(0, len(todo), CHUNK):
            self._chunk(todo[start : start + CHUNK], batch)
            self.emit({"event": "encoded", "done": min(start + CHUNK, len(todo)), "of": len(todo)})
        kept = [(i, self.rows[i.name]) for i in self.listed.items if i.name in self.rows]
        if not kept:
            raise DataError(f"{self.listed.where}: none of its images can be read")
        labels = torch.tensor([i.label for i, _ in kept]) if self.listed.classes else None
        rows = {"stamps": [r.stamp for _, r in kept], "digests": [r.digest for _, r in kept]}
        values = torch.stack([r.code for _, r in kept])
        made = Codes(values, tuple(i.name for i, _ in kept), labels, self.listed.classes, record=self.record | rows)
        if before is None or not _same(before, made):
            codes.write(self.path, made)
        codes.describe(self.path, made)
        shutil.rmtree(self.parts, ignore_errors=True)
        return Encoded(self.path, made, self.computed, made.n - self.computed, tuple(dict.fromkeys(self.notes)))

    def _remembered(self, stamps: Sequence[str]) -> Codes | None:
        """Take over codes of a finished file and of the parts of a stopped run.

        Raises:
            ConfigError: if they are of another autoencoder or of other images.
        """
        found = codes.read(self.path) if self.path.exists() else None
        known = [] if found is None else [(self.path, found)]
        for part in sorted(self.parts.glob("*.safetensors")) if self.parts.is_dir() else ():
            try:
                known.append((self.parts, codes.read(part)))
            except DataError:
                continue  # cut short by the stop; its images are encoded again
        for where, content in known:
            _check_alike(where, content.record, self.record)
            self._take(content.names, content.record["stamps"], content.record["digests"], content.values)
        if known and not self._any_known(stamps):
            raise ConfigError(OTHER_IMAGES.format(known[0][0], self.listed.where))
        return found

    def _any_known(self, stamps: Sequence[str]) -> bool:
        """Whether any of the images has a code: one of this name and stamp, else one of this content."""
        if any(i.name in self.rows and self.rows[i.name].stamp == s for i, s in zip(self.listed.items, stamps, strict=True)):
            return True
        return any(_digest(_content(item)) in self.by_content for item in self.listed.items)

    def _take(self, names: Sequence[str], stamps: Sequence[str], digests: Sequence[str], values: Tensor) -> None:
        for name, stamp, digest, code in zip(names, stamps, digests, values, strict=True):
            self.rows[name] = _Row(stamp, digest, code)
            self.by_content[digest] = code

    def _chunk(self, todo: Sequence[tuple[Item, str]], batch: int) -> None:
        """Encode some images and keep their codes as a part."""
        fresh: list[tuple[Item, str, str]] = []
        touched: list[tuple[str, _Row]] = []
        for item, stamp in todo:
            self.rows.pop(item.name, None)  # of what the image was before
            content = _content(item)
            digest = _digest(content)
            if digest in self.by_content:
                touched.append((item.name, _Row(stamp, digest, self.by_content[digest])))
            else:
                fresh.append((dataclasses.replace(item, read=_given(content)), stamp, digest))
        if fresh:
            some = ImageSet(self.listed.where, tuple(item for item, _, _ in fresh))
            images = self._decoded(some)
            if images is not None:
                self.notes += images.notes
                values = codes.encode_images(self.autoencoder, images.tensor(), batch)
                found = dict(zip(images.names, values, strict=True))
                touched += [(i.name, _Row(s, d, found[i.name])) for i, s, d in fresh if i.name in found]
                self.computed += len(found)
        for name, row in touched:
            self.rows[name] = row
            self.by_content[row.digest] = row.code
        if touched:
            names, rows = zip(*touched, strict=True)
            record = self.record | {"stamps": [r.stamp for r in rows], "digests": [r.digest for r in rows]}
            part = Codes(torch.stack([r.code for r in rows]), tuple(names), record=record)
            number = len(list(self.parts.glob("*.safetensors"))) if self.parts.is_dir() else 0
            codes.write(self.parts / f"{number:06d}.safetensors", part)

    def _decoded(self, some: ImageSet) -> Images | None:
        """Images of a part; None if they are to be skipped and not one can be read."""
        try:
            return some.decode(self.autoencoder.size, self.autoencoder.channels, self.fit, self.on_bad)
        except DataError as error:
            if self.on_bad == "error":
                raise
            self.notes.append(str(error))
            return None


def _content(item: Item) -> bytes | Pixels | UnreadableImage:
    """What an image's file holds, or why it cannot be read."""
    try:
        return item.read()
    except UnreadableImage as error:
        return error


def _given(content: bytes | Pixels | UnreadableImage) -> Callable[[], bytes | Pixels]:
    def read() -> bytes | Pixels:
        if isinstance(content, UnreadableImage):
            raise content
        return content

    return read


def _digest(content: bytes | Pixels | UnreadableImage) -> str:
    """SHA-256 of an image's content; empty for one that cannot be read, which is no content."""
    if isinstance(content, UnreadableImage):
        return ""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(f"{content.shape}|{content.dtype}".encode() + content.tobytes()).hexdigest()


def stamps_of(listed: ImageSet) -> list[str]:
    """What tells cheaply that images are as they were: size and time of files, checksums of an archive's directory."""
    text, _, _ = listed.where.partition(".npz:")
    where = pathlib.Path(text)
    if where.is_dir():
        found = [(where / item.name).stat() for item in listed.items]
        return [f"{s.st_size}:{s.st_mtime_ns}" for s in found]
    with zipfile.ZipFile(where) as archive:
        sums = {entry.filename: f"{entry.file_size}:{entry.CRC:08x}" for entry in archive.infolist()}
    return [sums.get(item.name) or sums[item.name.partition("[")[0] + ".npy"] for item in listed.items]


def _check_alike(where: pathlib.Path, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse codes that were made in another way.

    Raises:
        ConfigError: saying what differs.
    """
    said = None
    if there.get("autoencoder_digest") != wanted["autoencoder_digest"]:
        said = (
            f"codes of another autoencoder: {(there.get('source') or {}).get('name')}, digest "
            f"{str(there.get('autoencoder_digest'))[:16]}, and this one's is {wanted['autoencoder_digest'][:16]}"
        )
    elif there.get("imported") != wanted.get("imported"):
        said = "codes imported from pickles" if there.get("imported") else "codes of images, not imported ones"
    elif not there.get("imported") and not {"stamps", "digests"} <= there.keys():
        said = "codes that do not say which images they are of"
    elif differing := [k for k in ("fit", "image") if there.get(k) != wanted[k]]:
        said = " and ".join(f"codes of images with {k} {there.get(k)}, not {wanted[k]}" for k in differing)
    if said is not None:
        raise ConfigError(f"{where}: holds {said}; choose another --out, or remove it")


def _bytes(code: Tensor) -> bytes:
    return code.numpy().tobytes()


def _same(a: Codes, b: Codes) -> bool:
    keys = ("stamps", "digests", "autoencoder_digest", "fit", "image", "source")
    alike = all(a.record.get(k) == b.record.get(k) for k in keys)
    return alike and (a.names, a.classes, a.digest) == (b.names, b.classes, b.digest)


def _imported(folder: pathlib.Path, path: pathlib.Path, record: dict[str, Any], autoencoder: Autoencoder) -> Encoded:
    """Codes that the authors of Mind2Mind pickled, taken over for an autoencoder whose they are said to be."""
    names, values = _published.read_code_folder(folder)
    wanted = int(torch.Size(autoencoder.code_shape).numel())
    if values.shape[1] != wanted:
        raise DataError(f"{folder}: its codes have {values.shape[1]} numbers, this source's have {wanted}")
    made = Codes(values, names, record=record | {"imported": True})
    if path.exists():
        before = codes.read(path)
        _check_alike(path, before.record, made.record)
        there = {(name, _bytes(code)) for name, code in zip(before.names, before.values, strict=True)}
        if there.isdisjoint((name, _bytes(code)) for name, code in zip(names, values, strict=True)):
            raise ConfigError(OTHER_IMAGES.format(path, folder))
        if _same(before, made):
            codes.describe(path, made)
            return Encoded(path, made, 0, made.n)
    codes.save(path, made)
    note = "codes imported from pickles, which do not say which autoencoder made them: they are taken to be this source's"
    return Encoded(path, made, 0, made.n, (note,))
