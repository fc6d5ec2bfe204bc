"""StyleALAE while it grows: all levels and image layers at hand, one level in use, its image blended with the one before.

Source: Pidhorskyi et al. 2020, "Adversarial latent autoencoders", and the settings of the authors' code.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones._alae import Decoder, Encoder, Mapping, Style, lrelu
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import CENTRE_LATENTS, ClassCode, Critic, Generator, Noise, Styles
from regraft.core.randomness import Rng, generator_at

SLOW = 0.1  # learning rate multiplier of mapping and head


class Growth(nn.Module):
    """Where growing is: a level, and how far its image has been blended in.

    Attributes:
        level: last level in use, 0 for 4x4.
        transition: steps over which the level is blended in, 0 for none.
        done: steps done at this level.
    """

    done: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.level, self.transition = 0, 0
        self.register_buffer("done", torch.zeros([], dtype=torch.long))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Growth":
        # An averaged generator is at the level of the one that it averages.
        return self

    def enter(self) -> None:
        """Begin a level."""
        self.done.zero_()

    def use(self, level: int, transition: int) -> None:
        """Set the level in use."""
        self.level, self.transition = level, transition

    def after_step(self) -> None:
        """Count a step."""
        self.done += 1

    @property
    def blend(self) -> float:
        """Share of the level's own image: a half cosine from 0 to 1 over the transition."""
        done = int(self.done)
        if done >= self.transition:
            return 1.0
        return 0.5 + 0.5 * math.sin(math.pi * done / self.transition - math.pi / 2)

    def shrunk(self, images: Tensor, levels: int) -> Tensor:
        """Images of full size at the size of the level in use."""
        factor = 1 << (levels - 1 - self.level)
        return functional.avg_pool2d(images, factor) if factor > 1 else images

    def real(self, images: Tensor, levels: int) -> Tensor:
        """Real images at the present size; in a transition as blurred as the generator's are."""
        x = self.shrunk(images, levels)
        if self.blend == 1.0:
            return x
        coarse = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="nearest")
        return coarse.lerp(x, self.blend)


class GrowingDecoder(Decoder):
    """A decoder with an image layer at each level."""

    def __init__(self, widths: tuple[int, ...], latent: int, channels: int, growth: Growth) -> None:
        super().__init__(widths, latent, channels, 1.0)
        self.growth = [growth]
        del self.to_rgb
        self.to_rgbs = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)

    def forward(self, w: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Styles (N, num_ws, D) to images of the present size."""
        level, blend = self.growth[0].level, self.growth[0].blend
        x = self.const.expand(len(w), -1, -1, -1)
        before = None
        for k, block in enumerate(self.decode_block[: level + 1]):
            if blend < 1 and k == level:
                before = functional.interpolate(self.to_rgbs[k - 1](x), scale_factor=2, mode="nearest")
            x = block(x, w[:, 2 * k : 2 * k + 2], noise, rng)
        image: Tensor = self.to_rgbs[level](x)
        return image if before is None else before.lerp(image, blend)


class GrowingEncoder(Encoder):
    """An encoder with an image layer at each level."""

    def __init__(self, widths: tuple[int, ...], latent: int, channels: int, growth: Growth) -> None:
        super().__init__(widths, latent, channels, 1.0)
        self.growth = [growth]
        del self.from_rgb
        self.from_rgbs = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """Images of the present size to styles (N, D)."""
        first, blend = len(self.encode_block) - 1 - self.growth[0].level, self.growth[0].blend
        x, w = self.encode_block[first](lrelu(lrelu(self.from_rgbs[first](image))))
        if blend < 1:
            w = w * blend
            before = lrelu(lrelu(self.from_rgbs[first + 1](functional.avg_pool2d(image, 2))))
            x = before.lerp(x.to(before), blend)  # under autocast they can be of different precision
        for block in self.encode_block[first + 1 :]:
            x, read = block(x)
            w = w + read
        styles: Tensor = w
        return styles

    def finished(self) -> dict[str, Tensor]:
        """Tensors of a grown encoder."""
        return _renamed(self.state_dict(), "from_rgbs.", "from_rgbs.0.", "from_rgb.")


class GrowingGenerator(Generator):
    """G(F(z)), at full size whatever the level."""

    def __init__(self, config: Any, growth: Growth) -> None:
        super().__init__()
        self.config, self.latent, self.channels = config, Latent(config.mapping[0]), config.channels
        self.levels = len(config.widths)
        self.size = (2 << self.levels, 2 << self.levels)
        self.mapping = Mapping(config.mapping, 2 * self.levels)
        self.synthesis = GrowingDecoder(config.widths, config.style_dim, config.channels, growth)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; there is no truncation before training is over."""
        if psi != 1.0:
            raise ConfigError("a growing StyleALAE has no mean style yet; truncate when it is finished")
        image = self.synthesis(self.mapping(z), noise, rng)
        factor = self.size[0] // image.shape[2]
        return functional.interpolate(image, scale_factor=factor, mode="nearest") if factor > 1 else image

    @property
    def styles(self) -> Styles:
        """See :meth:`Generator.styles`."""
        return Styles(self.mapping, self.synthesis, self.mapping.w_avg)

    def finished(self) -> dict[str, Tensor]:
        """Tensors of a grown generator, the mean style measured."""
        with torch.no_grad():
            z = self.latent.sample(CENTRE_LATENTS, generator_at(0, "mean style")).to(self.synthesis.const)
            self.mapping.w_avg.copy_(self.mapping(z).mean(0))
        last = f"synthesis.to_rgbs.{self.levels - 1}."
        return _renamed(self.state_dict(), "synthesis.to_rgbs.", last, "synthesis.to_rgb.")


class GrowingCritic(Critic):
    """D(E(x)), of images at full or present size."""

    def __init__(self, config: Any, head: nn.Module, growth: Growth) -> None:
        super().__init__()
        self.config, self.channels, self.levels = config, config.channels, len(config.widths) - 1
        self.size = (2 << self.levels, 2 << self.levels)
        self.growth = [growth]
        self.encoder = GrowingEncoder(config.widths, config.style_dim, config.channels, growth)
        self.head = head

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`."""
        present = 4 << self.growth[0].level
        x = self.growth[0].shrunk(x, self.levels) if x.shape[2] != present else x
        scores: Tensor = self.head(self.encoder(x))
        return scores

    def finished(self) -> dict[str, Tensor]:
        """Tensors of a grown critic."""
        head = {f"head.{k}": v for k, v in self.head.state_dict().items()}
        return {f"encoder.{k}": v for k, v in self.encoder.finished().items()} | head


def _renamed(tensors: dict[str, Tensor], drop: str, keep: str, new: str) -> dict[str, Tensor]:
    kept = {k: v for k, v in tensors.items() if not k.startswith(drop)}
    return kept | {new + k.removeprefix(keep): v for k, v in tensors.items() if k.startswith(keep)}


def initialise(network: nn.Module) -> None:
    """The family's weights for a growing network."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, _gain(name, module) / _inputs(module) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def step_sizes(network: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters by the factor of their step size, the authors' equalised learning rate.

    A weight's factor is the deviation that it was drawn with, times 0.1 in mapping and head; so is a bias's, but for the
    deviation; everything else has 1.
    """
    groups: dict[float, list[Any]] = {}
    seen: set[int] = set()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            slow = SLOW if name.startswith(("mapping.", "head.")) else 1.0
            factor = slow * _gain(name, module) / _inputs(module) ** 0.5
            groups.setdefault(factor, []).append(module.weight)
            if module.bias is not None:
                groups.setdefault(slow, []).append(module.bias)
            seen |= {id(p) for p in module.parameters()}
    groups.setdefault(1.0, []).extend(p for p in network.parameters() if id(p) not in seen)
    return [(parameters, factor) for factor, parameters in sorted(groups.items()) if parameters]


def _gain(name: str, module: nn.Module) -> float:
    if isinstance(module, Style):
        return 1.0
    return 0.03 if ".to_rgb" in name else 2**0.5


def _inputs(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features
    return module.in_channels * module.kernel_size[0] ** 2
