"""Random numbers as functions of a seed and a place, so that no result depends on batch size, order or process count."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Rng = torch.Generator | Sequence[torch.Generator]
"""One random generator for a whole batch, or one per row."""


def derive(seed: int, *place: int | str) -> int:
    """Hash a seed and a place (name of a stream, step, image index, ...) to a seed of 63 bits."""
    digest = hashlib.blake2b(repr((int(seed), *place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_at(seed: int, *place: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the random generator of a place under a seed; see :func:`derive`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *place))


def row_generators(seed: int, stream: str, indices: Sequence[int]) -> list[torch.Generator]:
    """Make one CPU generator per image index, independent of how images are batched."""
    return [generator_at(seed, stream, int(k)) for k in indices]


def subset(total: int, n: int, seed: int) -> list[int]:
    """Draw ``n`` different indices below ``total`` by a seed, in rising order; all indices if there are no more than ``n``.

    The first ``n`` indices would not do: of images in class folders, they are those of the first classes.
    """
    if n >= total:
        return list(range(total))
    return sorted(torch.randperm(total, generator=generator_at(seed, "subset"))[:n].tolist())


def normal(shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
    """Draw standard normal numbers, row by row where ``rng`` holds one generator per row.

    Args:
        shape: shape of the result, rows first.
        rng: one generator for all, or a sequence with one per row.
        like: gives device and dtype.
    """
    return _draw(torch.randn, shape, rng, like)


def uniform(shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
    """Draw numbers uniform in [0, 1); arguments as :func:`normal`."""
    return _draw(torch.rand, shape, rng, like)


def _draw(draw: Callable[..., Tensor], shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
    if isinstance(rng, torch.Generator):
        return draw(tuple(shape), generator=rng, device=rng.device, dtype=like.dtype).to(like.device)
    rows = [draw(tuple(shape[1:]), generator=row, device=row.device, dtype=like.dtype) for row in rng]
    return torch.stack(rows).to(like.device)


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block and restore its state afterwards.

    It is needed for the initialisers of torch.nn, which take no generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "global"))
        yield
