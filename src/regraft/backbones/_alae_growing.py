"""StyleALAE while it grows: all levels have their layers, one level is in use, and its image is blended with the one before.

Source: Pidhorskyi et al. 2020, "Adversarial latent autoencoders", and the settings of the authors' code.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones._alae import Decoder, Encoder, Head, Mapping, Style, Weighted, fan_in, lrelu
from regraft.backbones._alae_config import ALAECriticConfig, ALAEGeneratorConfig, image_size
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import CENTRE_LATENTS, ClassCode, Critic, Generator, Noise
from regraft.core.randomness import Rng, generator_at

SLOW = 0.1  # learning rate multiplier of mapping and head


class Growth(nn.Module):
    """The state of growing, shared by generator and critic: the level in use, and how far its image is blended in.

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

    def __deepcopy__(self, memo: dict[int, object]) -> "Growth":
        # An averaged generator is at the level of the one that it averages.
        return self

    def set_level(self, level: int, transition: int) -> None:
        """Set the level in use and the steps of its transition; the count of steps done stays."""
        self.level, self.transition = level, transition

    def restart_count(self) -> None:
        """Set the count of steps done to 0, at the beginning of a level."""
        self.done.zero_()

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

    def shrink(self, images: Tensor, levels: int) -> Tensor:
        """Bring images of full size, that of ``levels`` levels, to the size of the level in use."""
        factor = 1 << (levels - 1 - self.level)
        return functional.avg_pool2d(images, factor) if factor > 1 else images

    def real_images(self, images: Tensor, levels: int) -> Tensor:
        """Bring real images to the size of the level in use; in a transition, blur them as the generator's are."""
        x = self.shrink(images, levels)
        if self.blend == 1.0:
            return x
        coarse = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="nearest")
        return coarse.lerp(x, self.blend)


class GrowingDecoder(Decoder):
    """A decoder with an image layer at each level."""

    def __init__(self, widths: tuple[int, ...], style_dim: int, channels: int, growth: Growth) -> None:
        super().__init__(widths, style_dim, channels, 1.0)
        # In a list, so that it is no sub-module: generator and critic share it.
        self._growth = [growth]
        del self.to_rgb
        self.to_rgbs = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)

    def forward(self, w: Tensor, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Synthesise images of the level in use from style vectors (N, num_ws, D)."""
        level, blend = self._growth[0].level, self._growth[0].blend
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

    def __init__(self, widths: tuple[int, ...], style_dim: int, channels: int, growth: Growth) -> None:
        super().__init__(widths, style_dim, channels, 1.0)
        self._growth = [growth]
        del self.from_rgb
        self.from_rgbs = nn.ModuleList(nn.Conv2d(channels, width, 1) for width in widths[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """Encode images of the level in use to style vectors (N, D)."""
        first, blend = len(self.encode_block) - 1 - self._growth[0].level, self._growth[0].blend
        w: Tensor
        x, w = self.encode_block[first](lrelu(lrelu(self.from_rgbs[first](image))))
        if blend < 1:
            w = w * blend
            before = lrelu(lrelu(self.from_rgbs[first + 1](functional.avg_pool2d(image, 2))))
            x = before.lerp(x.to(before), blend)  # under autocast they can be of different precision
        for block in self.encode_block[first + 1 :]:
            x, part = block(x)
            w = w + part
        return w

    def final_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the :class:`Encoder` that this one is when all levels have grown."""
        return _keep_one(self.state_dict(), "from_rgbs.", "from_rgbs.0.", "from_rgb.")


class GrowingGenerator(Generator):
    """G(F(z)) whose images have full size at every level: those of the level in use are enlarged."""

    def __init__(self, config: ALAEGeneratorConfig, growth: Growth) -> None:
        super().__init__()
        self.config, self.latent, self.channels = config, Latent(config.mapping[0]), config.channels
        self.levels = len(config.widths)
        self.size = image_size(self.levels)
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

    def final_tensors(self) -> dict[str, Tensor]:
        """Measure the mean style and return the tensors of the generator that this one is when all levels have grown."""
        with torch.no_grad():
            z = self.latent.sample(CENTRE_LATENTS, generator_at(0, "mean style")).to(self.synthesis.const)
            self.mapping.w_avg.copy_(self.mapping(z).mean(0))
        last = f"synthesis.to_rgbs.{self.levels - 1}."
        return _keep_one(self.state_dict(), "synthesis.to_rgbs.", last, "synthesis.to_rgb.")


class GrowingCritic(Critic):
    """D(E(x)), of images at full size or at that of the level in use."""

    def __init__(self, config: ALAECriticConfig, growth: Growth) -> None:
        super().__init__()
        self.config, self.channels, self.levels = config, config.channels, len(config.widths) - 1
        self.size = image_size(self.levels)
        self._growth = [growth]
        self.encoder = GrowingEncoder(config.widths, config.style_dim, config.channels, growth)
        self.head = Head(config.head)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`."""
        growth = self._growth[0]
        x = growth.shrink(x, self.levels) if x.shape[2] != 4 << growth.level else x
        scores: Tensor = self.head(self.encoder(x))
        return scores

    def final_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the critic that this one is when all levels have grown."""
        head = {f"head.{k}": v for k, v in self.head.state_dict().items()}
        return {f"encoder.{k}": v for k, v in self.encoder.final_tensors().items()} | head


def _keep_one(tensors: dict[str, Tensor], drop: str, keep: str, new: str) -> dict[str, Tensor]:
    """Drop all names that begin with ``drop``, but keep those that begin with ``keep``, renamed to begin with ``new``."""
    others = {k: v for k, v in tensors.items() if not k.startswith(drop)}
    return others | {new + k.removeprefix(keep): v for k, v in tensors.items() if k.startswith(keep)}


def initialise(network: nn.Module) -> None:
    """Draw the family's weights for a growing network: normal, of deviation gain / sqrt(fan in); zero biases."""
    for name, module in network.named_modules():
        if isinstance(module, Weighted):
            nn.init.normal_(module.weight, 0.0, _gain(name, module) / fan_in(module) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def step_sizes(network: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
    """Group parameters by the factor of their step size, the authors' equalised learning rate.

    The factor of a weight is the deviation that it was drawn with, times 0.1 in mapping and head.  The factor of a bias is 1,
    and 0.1 in mapping and head.  The factor of every other parameter is 1.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    grouped: set[int] = set()
    for name, module in network.named_modules():
        if isinstance(module, Weighted):
            slow = SLOW if name.startswith(("mapping.", "head.")) else 1.0
            for leaf, parameter in module.named_parameters(recurse=False):
                factor = slow * _gain(name, module) / fan_in(module) ** 0.5 if leaf == "weight" else slow
                groups.setdefault(factor, []).append(parameter)
                grouped.add(id(parameter))
    groups.setdefault(1.0, []).extend(p for p in network.parameters() if id(p) not in grouped)
    return [(parameters, factor) for factor, parameters in sorted(groups.items()) if parameters]


def _gain(name: str, module: Weighted) -> float:
    """Return 1 for style layers, 0.03 for the layers that make images, sqrt 2 for all others."""
    if isinstance(module, Style):
        return 1.0
    return 0.03 if ".to_rgb" in name else 2**0.5
