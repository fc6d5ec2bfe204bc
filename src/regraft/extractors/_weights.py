"""Find, check and read the files that extractors are made from."""

import hashlib
import pathlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from regraft.core.errors import ConfigError, DownloadError, SourceError
from regraft.files import download
from regraft.files.weights import read_state_dict

Tensors = dict[str, Tensor]


def read_tensors(path: pathlib.Path, what: str = "network") -> Tensors:
    """Read the tensors of a safetensors or torch file, floating ones in single precision.

    Args:
        path: the file.
        what: kind of the file, for the error.

    Raises:
        SourceError: if the file cannot be read, or holds anything but named tensors.
    """
    if not path.is_file():
        raise SourceError(f"{path}: there is no such {what} file")
    return {k: v.float() if v.is_floating_point() else v for k, v in read_state_dict(path).items()}


def sha256_of(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        SourceError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None


def fetch(url: str, sha256: str, option: str) -> pathlib.Path:
    """Return a file from the cache, downloading it if it is not there.

    Args:
        url: address of the file.
        sha256: digest of the file.
        option: option that names such a file on this machine, for the error.

    Raises:
        ConfigError: if the file is neither in the cache nor can be downloaded.
    """
    path = download.cache_folder() / "extractors" / url.rpartition("/")[2]
    if path.is_file() and sha256_of(path) == sha256:
        return path
    try:
        return download.fetch(download.Remote(url, sha256), path)
    except DownloadError as error:
        raise ConfigError(f"{error}; or download {url} and put it at {path}, or name it with {option}") from None


def load_torchscript(path: pathlib.Path) -> torch.jit.ScriptModule:
    """Load a TorchScript program; only for files whose digest was checked, because it will be run.

    Raises:
        SourceError: if the file is no TorchScript.
    """
    load: Callable[..., torch.jit.ScriptModule] = torch.jit.load
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated, but the file that defines FID is TorchScript.
            warnings.simplefilter("ignore", DeprecationWarning)
            return load(path, map_location="cpu").eval()
    except Exception as error:  # noqa: BLE001 - the loader raises many kinds
        reason = " ".join(str(error).split())[:160]
        raise SourceError(f"{path}: cannot be read as TorchScript ({reason})") from None
