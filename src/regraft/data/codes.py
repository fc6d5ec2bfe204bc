"""Images as an autoencoder's codes: encoded once, kept in one file, resident in memory while a MindGAN trains.

A codes file is safetensors: ``codes`` (N, D), ``mean`` and ``std`` (D,), ``labels`` (N,) where there are classes, and as bytes
in ``record`` a JSON of names, digests, the autoencoder's digest, how images were prepared.  So one write makes it whole.  A
copy of the JSON lies beside it, for people and other programs.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from regraft.core.device import device_of
from regraft.core.errors import DataError, MissingCapability
from regraft.core.networks import Autoencoder, Batch, evaluating
from regraft.data.images import Images
from regraft.files.atomic import write_json, write_tensors

FORMAT = "regraft-codes"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes of images; data of the training loop.

    Attributes:
        values: (N, D), float32; spatial codes are flat.
        names: of the images.
        labels: (N,), int64, or None.
        classes: names of the labels.
        mirrored: codes of the mirror images, same shape, or None; each is drawn half of the time.
        record: what the file says of them beside this.
    """

    values: Tensor
    names: tuple[str, ...] = ()
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    mirrored: Tensor | None = None
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    _resident: dict[torch.device, tuple[Tensor, Tensor | None]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n(self) -> int:
        """Number of codes."""
        return len(self.values)

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.classes)

    @property
    def mean(self) -> Tensor:
        """Mean code, (D,), mirror images included."""
        return self._whole.double().mean(0).float()

    @property
    def std(self) -> Tensor:
        """Standard deviation of each number, (D,), at least a thousandth of their root mean square."""
        spread = self._whole.double().std(0, correction=0)
        return spread.clamp_min(float(spread.square().mean().sqrt()) * 1e-3 + 1e-12).float()

    @property
    def _whole(self) -> Tensor:
        return self.values if self.mirrored is None else torch.cat([self.values, self.mirrored])

    @property
    def digest(self) -> str:
        """SHA-256 over codes and labels."""
        digest = hashlib.sha256(f"{tuple(self.values.shape)}|{self.classes}".encode())
        for part in (self.values, self.mirrored, self.labels):
            digest.update(b"" if part is None else part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | Tensor) -> "Codes":
        """Some of them, in the given order."""
        index = torch.as_tensor(indices, dtype=torch.long)
        names = tuple(self.names[i] for i in index.tolist()) if self.names else ()
        labels = None if self.labels is None else self.labels[index]
        mirrored = None if self.mirrored is None else self.mirrored[index]
        return dataclasses.replace(self, values=self.values[index], names=names, labels=labels, mirrored=mirrored)

    def batch(self, index: Tensor, rng: torch.Generator, device: torch.device) -> Batch:
        """Codes ``index``, from the mirror images with probability one half where these are there."""
        if device not in self._resident:
            self._resident[device] = self.values.to(device), None if self.mirrored is None else self.mirrored.to(device)
        values, mirrored = self._resident[device]
        rows = index.to(device)
        data = values[rows]
        if mirrored is not None:
            flipped = torch.rand(len(index), 1, generator=rng, device=rng.device).to(device) < 0.5
            data = torch.where(flipped, mirrored[rows], data)
        labels = None if self.labels is None else self.labels[index].to(device)
        return Batch(data, index, labels)


@torch.no_grad()
def encoded(autoencoder: Autoencoder, images: Tensor, batch: int = 64) -> Tensor:
    """Codes (N, D) of images (N, C, H, W) in [-1, 1], on the CPU; each independent of its batch-mates."""
    device = device_of(autoencoder)
    with evaluating(autoencoder):
        parts = [autoencoder.encode(images[k : k + batch].to(device)).flatten(1).cpu() for k in range(0, len(images), batch)]
    return torch.cat(parts) if parts else torch.empty(0, 0)


LOST = "the autoencoder gives these images back worse than their mean image would be, and samples can hardly be better"
"""What is to be said where :func:`unexplained` is 1 or more."""


def unexplained(images: Tensor, again: Tensor) -> float:
    """Squared error of reconstructions over that of the mean image: 0 if exact, 1 if no better than the mean image for all."""
    variance = (images - images.mean(0)).square().mean()
    return float((images - again).square().mean() / variance.clamp_min(1e-12))


def of_images(autoencoder: Autoencoder, images: Any) -> Codes:
    """Codes of decoded images, with those of their mirror images where these belong to the data.

    Raises:
        MissingCapability: if the data are no images.
    """
    if isinstance(images, Codes):
        return images
    if not isinstance(images, Images):
        raise MissingCapability(f"mind2mind takes images or codes, not {type(images).__name__}")
    tensor = images.tensor()
    mirrored = encoded(autoencoder, tensor.flip(3)) if images.flip else None
    return Codes(encoded(autoencoder, tensor), images.names, images.labels, images.classes, mirrored)


def json_beside(path: pathlib.Path) -> pathlib.Path:
    """The JSON beside a codes file."""
    return path.with_suffix(".json")


def is_codes(path: str | pathlib.Path) -> bool:
    """Whether a path is a codes file."""
    where = pathlib.Path(path)
    if where.suffix != ".safetensors" or not where.is_file():
        return False
    try:
        with safetensors.safe_open(where, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (safetensors.SafetensorError, OSError):
        return False


def save(path: pathlib.Path, codes: Codes) -> None:
    """Write a codes file atomically, with its JSON beside it."""
    write(path, codes)
    describe(path, codes)


def write(path: pathlib.Path, codes: Codes) -> None:
    """Write a codes file atomically, and nothing beside it."""
    tensors = {"codes": codes.values, "mean": codes.mean, "std": codes.std}
    tensors |= {} if codes.labels is None else {"labels": codes.labels}
    # A tensor, because safetensors bounds its own metadata and names of a million images are larger.
    tensors["record"] = torch.frombuffer(bytearray(json.dumps(_record(codes)).encode()), dtype=torch.uint8)
    write_tensors(path, tensors, {"format": FORMAT, "version": str(VERSION), "digest": codes.digest})


def describe(path: pathlib.Path, codes: Codes) -> None:
    """Write the JSON beside a codes file, unless it is there and right."""
    beside, record = json_beside(path), json.loads(json.dumps(_record(codes)))
    try:
        right = json.loads(beside.read_text(encoding="utf-8")) == record
    except (OSError, ValueError, RecursionError):
        right = False
    if not right:
        write_json(beside, record)


def _record(codes: Codes) -> dict[str, Any]:
    own = {"format": FORMAT, "format_version": VERSION, "n": codes.n, "digest": codes.digest}
    return codes.record | own | {"names": list(codes.names), "classes": list(codes.classes)}


def read(path: str | pathlib.Path) -> Codes:
    """Read a codes file.

    Raises:
        DataError: if it is damaged.
    """
    where = pathlib.Path(path)
    try:
        tensors = safetensors.torch.load_file(where)
        record: dict[str, Any] = json.loads(_text(where, tensors.get("record")))
        names, classes = tuple(map(str, record["names"])), tuple(map(str, record["classes"]))
        if record.get("format_version") != VERSION:
            raise ValueError(f"format version {record.get('format_version')}; this regraft reads {VERSION}")
        values, labels = tensors["codes"], tensors.get("labels")
        if values.dim() != 2 or values.dtype != torch.float32 or len(names) != len(values):
            raise ValueError(
                f"codes are {values.dtype} {tuple(values.shape)} with {len(names)} names; they must be float32 (N, D)"
            )
        if not torch.isfinite(values).all():
            raise ValueError("some codes are not finite")
        if labels is not None and (
            labels.shape != (len(values),) or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes)
        ):
            raise ValueError("labels and classes do not fit the codes")
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{where}: a damaged codes file ({type(error).__name__}: {reason}); remove it and encode the images again"
        ) from None
    codes = Codes(values, names, labels, classes, record=record)
    if codes.digest != record.get("digest"):
        raise DataError(f"{where}: its codes are not those that its record describes; remove it and encode the images again")
    return codes


def _text(path: pathlib.Path, record: Tensor | None) -> str:
    """The JSON inside a codes file; of the first files, the one beside it."""
    return json_beside(path).read_text(encoding="utf-8") if record is None else record.numpy().tobytes().decode()
