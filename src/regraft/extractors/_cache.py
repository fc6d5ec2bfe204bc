"""Features on disk, named by the digest of the images and of the extractor; and files that extractors are read from."""

import contextlib
import hashlib
import pathlib
import warnings
from collections.abc import Callable

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from regraft.core.errors import ConfigError, DownloadError, SourceError
from regraft.files import download
from regraft.files.atomic import write_tensors

VERSION = "1"
"""Of what extractors compute; a change of any protocol changes it, and old features are not found any more."""


def kept(
    where: pathlib.Path, what: str, extractor: str, images: Tensor, make: Callable[[], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Tensors made of some images before, or made now and kept; a damaged file is made anew.

    Args:
        where: folder.
        what: tells several results of one extractor apart.
        extractor: digest of the extractor.
        images: (N, C, H, W).
        make: computes the tensors, N rows each.
    """
    digest = hashlib.sha256(f"{VERSION}|{what}|{extractor}|{tuple(images.shape)}|{images.dtype}|".encode())
    digest.update(images.detach().cpu().contiguous().numpy().data)
    path = where / f"{digest.hexdigest()}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError):
        found = safetensors.torch.load_file(path)
        tensors = tuple(found[str(i)] for i in range(len(found)) if str(i) in found)
        if tensors and len(tensors) == len(found) and all(len(t) == len(images) for t in tensors):
            return tensors
    made = make()
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
        write_tensors(path, {str(i): t for i, t in enumerate(made)})
    return made


def sha256_of(path: pathlib.Path) -> str:
    """Digest of a file.

    Raises:
        SourceError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None


def fetched(url: str, sha256: str, option: str) -> pathlib.Path:
    """A file from the cache, fetched once if regraft can download.

    Args:
        url: its address.
        sha256: its digest.
        option: how to name a file by hand instead, for the error.

    Raises:
        ConfigError: if it is not there and cannot be fetched.
    """
    path = download.cache_folder() / "extractors" / url.rpartition("/")[2]
    if path.is_file() and sha256_of(path) == sha256:
        return path
    try:
        return download.fetch(download.Remote(url, sha256), path)
    except DownloadError as error:
        raise ConfigError(f"{error}; or download {url} and put it at {path}, or name it with {option}") from None


def scripted(path: pathlib.Path) -> torch.jit.ScriptModule:
    """A TorchScript program, loaded to be run: only for files whose digest was checked.

    Raises:
        SourceError: if it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is, and the field's file is TorchScript
            made: torch.jit.ScriptModule = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - the loader raises many kinds
        reason = " ".join(str(error).split())[:160]
        raise SourceError(f"{path}: cannot be read as TorchScript ({reason})") from None
    return made.eval()
