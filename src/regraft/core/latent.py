"""Input distributions of generators."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from regraft.core.randomness import Rng, normal, row_generators, uniform

Distribution = Literal["normal", "truncated_normal", "uniform", "sphere"]


@dataclasses.dataclass(frozen=True)
class Latent:
    """The input distribution of a generator.

    Attributes:
        dim: how many numbers a latent has.
        distribution: ``normal`` N(0, I); ``truncated_normal`` N(0, I) redrawn inside [-bound, bound];
            ``uniform`` on [-bound, bound]; ``sphere`` uniform on the unit sphere.
        bound: half-width of ``truncated_normal`` and ``uniform``.
    """

    dim: int
    distribution: Distribution = "normal"
    bound: float = 1.0

    def sample(self, n: int, rng: Rng, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``n`` latents, (n, dim), float32."""
        like = torch.empty(0, device=device)
        if self.distribution == "uniform":
            return (uniform((n, self.dim), rng, like) * 2 - 1) * self.bound
        if self.distribution == "truncated_normal":
            # Inverse distribution function; Phi(b) - Phi(-b) = erf(b / sqrt 2).
            mass = torch.erf(torch.tensor(self.bound / 2**0.5))
            quantile = (uniform((n, self.dim), rng, like) * 2 - 1) * mass.to(device)
            return (torch.erfinv(quantile) * 2**0.5).clamp(-self.bound, self.bound)
        z = normal((n, self.dim), rng, like)
        return nn.functional.normalize(z, dim=1) if self.distribution == "sphere" else z

    @property
    def variance(self) -> float:
        """Variance of each number of a latent."""
        b = self.bound
        if self.distribution == "uniform":
            return b * b / 3
        if self.distribution == "truncated_normal":
            density = math.exp(-b * b / 2) / math.sqrt(2 * math.pi)
            return 1 - 2 * b * density / math.erf(b / math.sqrt(2))
        return 1 / self.dim if self.distribution == "sphere" else 1.0

    def at(self, seed: int, indices: Sequence[int]) -> Tensor:
        """Return the latents of the images ``indices`` of ``seed``, (n, dim), the same however images are batched."""
        return self.sample(len(indices), row_generators(seed, "latent", indices))


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate between two latents (dim,) along a great arc, and between their lengths linearly; ``t`` is in [0, 1].

    Source: Shoemake 1985; straight lines between Gaussian latents pass through a region that training never saw.
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle < 1e-4:
        return torch.lerp(a, b, t)
    length = torch.lerp(a.norm(), b.norm(), t)
    direction = (torch.sin((1 - t) * angle) * a / a.norm() + torch.sin(t * angle) * b / b.norm()) / torch.sin(angle)
    point: Tensor = direction * length
    return point
