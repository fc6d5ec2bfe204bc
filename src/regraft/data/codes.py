"""Codes of images under an autoencoder: encoded once, stored in one file, held in memory while a MindGAN trains.

A codes file is safetensors: ``codes`` (N, D), ``mean`` and ``std`` (D,), ``labels`` (N,) if there are classes, and ``record``,
the bytes of a JSON with the images' names, digests, the autoencoder's digest and how the images were prepared.  The JSON is
inside so that one atomic write completes the file.  A copy of it lies beside the file, for people and other programs.
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
    """Codes of images, as data of the training loop.

    Attributes:
        values: codes, (N, D), float32; spatial codes are flattened.
        names: names of the images.
        labels: classes, (N,), int64, or None.
        classes: names of the labels.
        mirrored: codes of the mirrored images, same shape, or None; a batch takes each with probability one half.
        record: all other fields of the codes file's JSON.
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
        """Mean code, (D,), mirrored images included."""
        return self._with_mirrored.double().mean(0).float()

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension, (D,), at least a thousandth of the root mean square over all dimensions."""
        spread = self._with_mirrored.double().std(0, correction=0)
        return spread.clamp_min(float(spread.square().mean().sqrt()) * 1e-3 + 1e-12).float()

    @property
    def _with_mirrored(self) -> Tensor:
        return self.values if self.mirrored is None else torch.cat([self.values, self.mirrored])

    @property
    def digest(self) -> str:
        """SHA-256 of codes, mirrored codes and labels."""
        digest = hashlib.sha256(f"{tuple(self.values.shape)}|{self.classes}".encode())
        for part in (self.values, self.mirrored, self.labels):
            digest.update(b"" if part is None else part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | Tensor) -> "Codes":
        """Return the codes at ``indices``, in that order."""
        index = torch.as_tensor(indices, dtype=torch.long)
        names = tuple(self.names[i] for i in index.tolist()) if self.names else ()
        labels = None if self.labels is None else self.labels[index]
        mirrored = None if self.mirrored is None else self.mirrored[index]
        return dataclasses.replace(self, values=self.values[index], names=names, labels=labels, mirrored=mirrored)

    def batch(self, index: Tensor, rng: torch.Generator, device: torch.device) -> Batch:
        """Return the codes at ``index``; if there are mirrored ones, each is taken from them with probability one half."""
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
def encode_images(autoencoder: Autoencoder, images: Tensor, batch: int = 64) -> Tensor:
    """Encode images in evaluation mode, so that a code does not depend on the other images of its batch.

    Args:
        autoencoder: in any mode, which is restored.
        images: (N, C, H, W) in [-1, 1].
        batch: images at a time.

    Returns:
        Codes, (N, D), on the CPU.
    """
    device = device_of(autoencoder)
    with evaluating(autoencoder):
        parts = [autoencoder.encode(images[k : k + batch].to(device)).flatten(1).cpu() for k in range(0, len(images), batch)]
    return torch.cat(parts) if parts else torch.empty(0, 0)


CANNOT_RECONSTRUCT = (
    "the autoencoder reconstructs these images worse than their mean image would, and samples can hardly be better"
)
"""Caution for an autoencoder whose :func:`unexplained_variance` is 1 or more."""


def unexplained_variance(images: Tensor, reconstructions: Tensor) -> float:
    """Return mean (x - reconstruction)^2 / mean (x - mean image)^2.

    Args:
        images, reconstructions: (N, C, H, W).

    Returns:
        0 if the reconstructions are exact, 1 if they are no better than the mean image in place of each.
    """
    variance = (images - images.mean(0)).square().mean()
    return float((images - reconstructions).square().mean() / variance.clamp_min(1e-12))


def of_images(autoencoder: Autoencoder, images: object) -> Codes:
    """Encode images, and their mirror images too if they have ``flip``; codes are returned as they are.

    Args:
        autoencoder: the encoder's.
        images: :class:`Images` or :class:`Codes`.

    Raises:
        MissingCapability: if the data are neither.
    """
    if isinstance(images, Codes):
        return images
    if not isinstance(images, Images):
        raise MissingCapability(f"mind2mind takes images or codes, not {type(images).__name__}")
    tensor = images.tensor()
    mirrored = encode_images(autoencoder, tensor.flip(3)) if images.flip else None
    return Codes(encode_images(autoencoder, tensor), images.names, images.labels, images.classes, mirrored)


def json_beside(path: pathlib.Path) -> pathlib.Path:
    """Return the path of the JSON beside a codes file."""
    return path.with_suffix(".json")


def is_codes(path: str | pathlib.Path) -> bool:
    """Return whether a path is a codes file."""
    path = pathlib.Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (safetensors.SafetensorError, OSError):
        return False


def save(path: pathlib.Path, codes: Codes) -> None:
    """Write a codes file atomically, with its JSON beside it."""
    write(path, codes)
    describe(path, codes)


def write(path: pathlib.Path, codes: Codes) -> None:
    """Write a codes file atomically, without the JSON beside it."""
    tensors = {"codes": codes.values, "mean": codes.mean, "std": codes.std}
    tensors |= {} if codes.labels is None else {"labels": codes.labels}
    # A tensor, because safetensors limits the size of its metadata, and the names of a million images exceed it.
    tensors["record"] = torch.frombuffer(bytearray(json.dumps(_record(codes)).encode()), dtype=torch.uint8)
    write_tensors(path, tensors, {"format": FORMAT, "version": str(VERSION), "digest": codes.digest})


def describe(path: pathlib.Path, codes: Codes) -> None:
    """Write the JSON beside a codes file, unless it is there and up to date."""
    beside, record = json_beside(path), json.loads(json.dumps(_record(codes)))
    try:
        up_to_date = json.loads(beside.read_text(encoding="utf-8")) == record
    except (OSError, ValueError, RecursionError):
        up_to_date = False
    if not up_to_date:
        write_json(beside, record)


def _record(codes: Codes) -> dict[str, Any]:
    fields = {"format": FORMAT, "format_version": VERSION, "n": codes.n, "digest": codes.digest}
    return codes.record | fields | {"names": list(codes.names), "classes": list(codes.classes)}


def read(path: str | pathlib.Path) -> Codes:
    """Read a codes file.

    Raises:
        DataError: if the file is damaged.
    """
    path = pathlib.Path(path)
    try:
        tensors = safetensors.torch.load_file(path)
        record: dict[str, Any] = json.loads(_json_of(path, tensors.get("record")))
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
            f"{path}: a damaged codes file ({type(error).__name__}: {reason}); remove it and encode the images again"
        ) from None
    codes = Codes(values, names, labels, classes, record=record)
    if codes.digest != record.get("digest"):
        raise DataError(f"{path}: its codes are not those that its record describes; remove it and encode the images again")
    return codes


def _json_of(path: pathlib.Path, record: Tensor | None) -> str:
    """Return the JSON inside a codes file; early files have it only beside them."""
    return json_beside(path).read_text(encoding="utf-8") if record is None else record.numpy().tobytes().decode()
