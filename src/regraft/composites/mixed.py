"""Several mined generators as one: each image comes from a single source, drawn with learned probabilities.

Source: Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images", section 3.2.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from regraft.composites.mined import MinedGenerator
from regraft.core.build import build
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.gan import GAN
from regraft.core.latent import Latent, slerp
from regraft.core.networks import ClassCode, Description, Generator, Noise
from regraft.core.randomness import Rng, uniform

# Weights of red, green and blue in a grey image (ITU-R BT.601); target images are turned to grey with the same.
GREY = (0.299, 0.587, 0.114)
RESIZE = "bilinear, antialiased"


def match_size(images: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """Bring images (N, C, H, W) to a size and to 1 or 3 channels, differentiably; images that fit stay as they are."""
    if images.shape[1] == 3 and channels == 1:
        images = (images * images.new_tensor(GREY)[None, :, None, None]).sum(1, keepdim=True)
    elif images.shape[1] == 1 and channels == 3:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[2:] == size:
        return images
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


@dataclasses.dataclass(frozen=True)
class MixedLatent(Latent):
    """Rows of the index of a source, that source's own latent, and zeros up to the length of the longest.

    Attributes:
        parts: the latents of the sources.
        probabilities: the probability of each source.
    """

    parts: tuple[Latent, ...] = ()
    probabilities: tuple[float, ...] = ()

    def sample(self, n: int, rng: Rng, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``n`` rows, (n, dim): a source for each, then a latent of that source."""
        like = torch.empty(0, device=device)
        limits = torch.tensor(self.probabilities, dtype=torch.float64).cumsum(0)
        draws = uniform((n,), rng, like).cpu().double() * limits[-1]
        index = torch.searchsorted(limits, draws, right=True).clamp_max(len(self.parts) - 1)
        rows = torch.zeros(n, self.dim, device=device)
        rows[:, 0] = index.to(rows)
        for number, part in enumerate(self.parts):
            where = (index == number).nonzero()[:, 0]
            if len(where):
                rngs = rng if isinstance(rng, torch.Generator) else [rng[k] for k in where.tolist()]
                rows[where.to(device), 1 : 1 + part.dim] = part.sample(len(where), rngs, device)
        return rows

    def only(self, source: int) -> "MixedLatent":
        """Return the same latents with all images from one source."""
        chosen = tuple(float(number == source) for number in range(len(self.parts)))
        return dataclasses.replace(self, probabilities=chosen)


class MixedGenerator(Generator):
    """Mined generators side by side, one of which makes each image, with the selector's probabilities.

    Attributes:
        parts: one mined generator per source.
        p: the probability of each source, (number of sources,).
    """

    p: Tensor
    n_classes = 0

    def __init__(self, parts: Sequence[MinedGenerator], size: tuple[int, int], channels: int, lead: int = 0) -> None:
        """Put mined generators together.

        Args:
            parts: mined generators of any latent, size and channels, without classes.
            size, channels: those that all images are brought to.
            lead: index of the part whose family says how the mixture is trained further.

        Raises:
            MissingCapability: if a part has classes.
        """
        super().__init__()
        if any(part.n_classes for part in parts):
            raise MissingCapability("generators with classes cannot be mixed; mine the classes with miner.classes=onehot")
        self.parts = nn.ModuleList(parts)
        self.size, self.channels, self.lead = size, channels, lead
        self.register_buffer("p", torch.full((len(parts),), 1 / len(parts)))

    @property
    def latent(self) -> MixedLatent:  # type: ignore[override]
        """Rows of a source and its latent, with the present probabilities."""
        parts = tuple(part.latent for part in self.mined)
        return MixedLatent(1 + max(part.dim for part in parts), parts=parts, probabilities=tuple(self.p.tolist()))

    @property
    def mined(self) -> list[MinedGenerator]:
        """The parts, typed."""
        return [cast(MinedGenerator, part) for part in self.parts]

    def part_images(
        self, number: int, u: Tensor, *, psi: float = 1.0, noise: Noise = "const", rng: Rng | None = None
    ) -> Tensor:
        """Make images of one source, of the common size and channels, from its own latents (N, that source's dim)."""
        return match_size(self.mined[number](u, psi=psi, noise=noise, rng=rng), self.size, self.channels)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; rows of ``z`` are those of :class:`MixedLatent`."""
        index = z[:, 0].round().long().clamp(0, len(self.parts) - 1)
        images = z.new_zeros(len(z), self.channels, *self.size)
        for number, part in enumerate(self.mined):
            where = (index == number).nonzero()[:, 0]
            if len(where):
                rngs = rng if rng is None or isinstance(rng, torch.Generator) else [rng[k] for k in where.tolist()]
                u = z[where, 1 : 1 + part.latent.dim]
                images = images.index_copy(
                    0, where, self.part_images(number, u, psi=psi, noise=noise, rng=rngs).to(images.dtype)
                )
        return images

    def only(self, source: int) -> "MixedGenerator":
        """Return a view of this generator, with shared weights, that makes all images with one source."""
        view = copy.copy(self)
        view._buffers = {**self._buffers, "p": torch.eye(len(self.parts)).to(self.p)[source]}
        return view

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        config: dict[str, Any] = {
            "parts": [part.describe().config for part in self.mined],
            "size": list(self.size),
            "channels": self.channels,
            "resize": RESIZE,
            "lead": self.lead,
        }
        return Description("mixed", "generator", config)

    @property
    def members(self) -> Sequence[Generator]:
        """See :meth:`Generator.members`: one mined generator per source."""
        return self.mined

    @property
    def style_path(self) -> list[nn.Module]:
        """See :meth:`Generator.style_path`: those of all sources."""
        return [module for part in self.mined for module in part.style_path]

    def measure_mean_style(self, z: Tensor | None = None) -> None:
        """See :meth:`Generator.measure_mean_style`; each source is measured on latents of its own."""
        for part in self.mined:
            part.measure_mean_style()

    @property
    def stages(self) -> list[nn.Module]:
        """See :meth:`Generator.stages`: the parts."""
        return list(self.parts)

    @property
    def norms(self) -> list[nn.Module]:
        """See :meth:`Generator.norms`: those of all sources."""
        return [norm for part in self.mined for norm in part.norms]


def one_source(gan: GAN, source: int) -> GAN:
    """Return an adapted GAN that makes all images with one of its sources.

    Raises:
        ConfigError: if the GAN has no source of that index.
    """
    generator = gan.generator
    if not isinstance(generator, MixedGenerator):
        raise ConfigError(f"--source-index {source}: this generator has one source only")
    if source >= len(generator.parts):
        raise ConfigError(f"--source-index {source}: this generator has sources 0 to {len(generator.parts) - 1}")
    return GAN(
        generator.only(source),
        gan.critic,
        objective=gan.objective,
        recipe=gan.recipe,
        provenance=gan.provenance,
        aspect=gan.aspect,
    )


def pick_source(gan: GAN, source: int | None) -> GAN:
    """Return a GAN between whose latents one can walk: of a mixture, that of one source.

    Args:
        gan: an adapted GAN.
        source: index of the source; the one with the highest probability if None.
    """
    if source is None and isinstance(gan.generator, MixedGenerator):
        source = int(gan.generator.p.argmax())
    return gan if source is None else one_source(gan, source)


def interpolate_latents(generator: Generator, a: Tensor, b: Tensor, t: float) -> Tensor:
    """Interpolate between two latents (dim,) of a generator; in a mixture, both must be of the same source.

    Args:
        generator: the latents' generator.
        a, b: latents.
        t: 0 gives ``a``, 1 gives ``b``.
    """
    if isinstance(generator, MixedGenerator):
        return torch.cat([a[:1], slerp(a[1:], b[1:], t)])
    return slerp(a, b, t)


def from_description(description: Description) -> MixedGenerator:
    """Build a mixture; its weights must be set."""
    config = description.config
    parts = [build(Description("mined", "generator", part)) for part in config["parts"]]
    height, width = config["size"]
    mined = [cast(MinedGenerator, part) for part in parts]
    return MixedGenerator(mined, (int(height), int(width)), int(config["channels"]), int(config.get("lead", 0)))
