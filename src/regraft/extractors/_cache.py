"""Store results of extractors on disk, named by the digests of the images and of the extractor."""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable

import safetensors
import safetensors.torch
from torch import Tensor

from regraft.files.atomic import write_tensors

VERSION = "1"
"""Version of what extractors compute; it changes with any of their protocols, so that old results are not found any more."""


def load_or_compute(
    folder: pathlib.Path, what: str, extractor: str, images: Tensor, compute: Callable[[], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Load results that were stored for these images, or compute and store them; a damaged file is replaced.

    Args:
        folder: where results are stored.
        what: kind of the results, if an extractor has several.
        extractor: digest of the extractor.
        images: (N, C, H, W).
        compute: returns the results, tensors of N rows each.
    """
    digest = hashlib.sha256(f"{VERSION}|{what}|{extractor}|{tuple(images.shape)}|{images.dtype}|".encode())
    digest.update(images.detach().cpu().contiguous().numpy().data)
    path = folder / f"{digest.hexdigest()}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError):
        stored = safetensors.torch.load_file(path)
        results = tuple(stored[str(i)] for i in range(len(stored)) if str(i) in stored)
        if results and len(results) == len(stored) and all(len(t) == len(images) for t in results):
            return results
    results = compute()
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
        write_tensors(path, {str(i): t for i, t in enumerate(results)})
    return results
