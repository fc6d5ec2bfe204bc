"""StyleALAE: a style generator, an encoder into its style space, and a critic that is a head on the encoder.

Generator = G(F(z)), critic = D(E(x)), autoencoder = (E, G).  A network that is still growing shows its last level blended
with the one before.

Source: Pidhorskyi et al. 2020, "Adversarial latent autoencoders".
"""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from regraft.backbones import _alae_growing
from regraft.backbones._alae import Decoder, Encoder, Mapping, Style
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Config, Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import Autoencoder, ClassCode, Critic, Description, Generator, Noise, Styles
from regraft.core.randomness import Rng

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Widths = Annotated[tuple[Width, ...], Field(min_length=2, max_length=10)]


class _Images(Config):
    """What all networks of the family know.

    Attributes:
        style_dim: numbers of a style vector.
        channels: of the images.
        blend: share of the last level in the image; below 1 the level before is seen too.
    """

    style_dim: Width
    channels: Literal[1, 3] = 3
    blend: Annotated[float, Field(ge=0, le=1)] = 1.0


class ALAEGeneratorConfig(_Images):
    """Generator: ``widths`` are the channels of each level from 4x4 on, ``mapping`` those of F, its input first."""

    widths: Widths
    mapping: Annotated[tuple[Width, ...], Field(min_length=2, max_length=64)]
    truncated_ws: Annotated[int, Field(ge=0, description="Style vectors, counted from the first, that psi acts on.")] = 8

    @model_validator(mode="after")
    def _fits(self) -> "ALAEGeneratorConfig":
        if self.mapping[-1] != self.style_dim:
            raise ValueError(f"the mapping ends in {self.mapping[-1]} numbers, not in style_dim={self.style_dim}")
        return self


class ALAECriticConfig(_Images):
    """Critic: ``widths`` are the encoder's channels from the image on, one more than levels; ``head`` those of D."""

    widths: Annotated[tuple[Width, ...], Field(min_length=3, max_length=11)]
    head: Annotated[tuple[Width, ...], Field(min_length=2, max_length=64)]

    @model_validator(mode="after")
    def _fits(self) -> "ALAECriticConfig":
        if self.head[0] != self.style_dim or self.head[-1] <= self.style_dim:
            raise ValueError(f"the head {self.head} must take style_dim={self.style_dim} numbers and give more than that")
        return self


class ALAEAutoencoderConfig(_Images):
    """Autoencoder: the encoder's widths from the image on, the decoder's from 4x4 on."""

    encoder: Annotated[tuple[Width, ...], Field(min_length=3, max_length=11)]
    decoder: Widths

    @model_validator(mode="after")
    def _fits(self) -> "ALAEAutoencoderConfig":
        if len(self.encoder) != len(self.decoder) + 1:
            raise ValueError("encoder and decoder have different numbers of levels")
        return self


class ALAEGenerator(Generator):
    """G(F(z))."""

    def __init__(self, config: ALAEGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.latent = Latent(config.mapping[0])
        self.channels, self.size = config.channels, _size(len(config.widths))
        self.mapping = Mapping(config.mapping, 2 * len(config.widths))
        self.synthesis = Decoder(config.widths, config.style_dim, config.channels, config.blend)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` acts on the first style vectors only, as the authors have it.

        Constant noise is the authors' ``noise=False``, which adds what noise does on average; ``none`` adds nothing.
        """
        w = self.mapping(z)
        if psi != 1.0:
            cut = min(self.config.truncated_ws, w.shape[1])
            w = torch.cat([self.mapping.w_avg[:cut].lerp(w[:, :cut], psi), w[:, cut:]], dim=1)
        images: Tensor = self.synthesis(w, noise, rng)
        return images

    @property
    def styles(self) -> Styles:
        """See :meth:`Generator.styles`."""
        return Styles(self.mapping, self.synthesis, self.mapping.w_avg)

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description("alae", "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """Mapping, levels, image layer."""
        return [self.mapping, *self.synthesis.stages]

    @property
    def norms(self) -> list[nn.Module]:
        """Style layers: gains and shifts of the instance norms."""
        return self.synthesis.styles


class Head(nn.Module):
    """D: linear layers without activation, of whose last outputs one is the score; the others are never used."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.score = widths[0]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    def forward(self, w: Tensor) -> Tensor:
        """Style vectors (N, D) to scores (N,)."""
        for layer in self.layers:
            w = layer(w)
        return w[:, self.score]


class ALAECritic(Critic):
    """D(E(x))."""

    def __init__(self, config: ALAECriticConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.size = config.channels, _size(len(config.widths) - 1)
        self.encoder = Encoder(config.widths, config.style_dim, config.channels, config.blend)
        self.head = Head(config.head)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`."""
        scores: Tensor = self.head(self.encoder(x))
        return scores

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description("alae", "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """Image layer, levels, head."""
        return [*self.encoder.stages, self.head]


class ALAEAutoencoder(Autoencoder):
    """E and G around the style space; a code is one style vector, used at every level."""

    def __init__(self, config: ALAEAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.size, self.code_shape = config.channels, _size(len(config.decoder)), (config.style_dim,)
        self.encoder = Encoder(config.encoder, config.style_dim, config.channels, config.blend)
        self.decoder = Decoder(config.decoder, config.style_dim, config.channels, config.blend)
        self.register_buffer("mean_code", torch.zeros(config.style_dim))

    def encode(self, x: Tensor) -> Tensor:
        """See :meth:`Autoencoder.encode`."""
        codes: Tensor = self.encoder(x)
        return codes

    def decode(self, codes: Tensor, *, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """See :meth:`Autoencoder.decode`."""
        images: Tensor = self.decoder(codes[:, None].expand(-1, self.decoder.num_ws, -1), noise, rng)
        return images

    def describe(self) -> Description:
        """See :meth:`Autoencoder.describe`."""
        return Description("alae", "autoencoder", self.config.model_dump(mode="json"))


def _size(levels: int) -> tuple[int, int]:
    return (2 << levels, 2 << levels)


class ALAE(Backbone[ALAEGeneratorConfig, ALAECriticConfig]):
    """StyleALAE.

    The authors train with noise, and with an Adam whose steps are scaled per layer by sqrt(2 / fan in): 0.0015 becomes some
    1e-4 or less in most layers, which is what the recipe takes for all.
    """

    objective = Objective(loss="nonsaturating", penalty="r1", penalty_weight=10.0)
    recipe = Recipe(generator_lr=1e-4, critic_lr=1e-4, betas=(0.0, 0.99), noise="random")
    smallest: ClassVar[dict[str, Any]] = {"size": 8, "width": 4, "latent_dim": 6, "mapping_layers": 2}
    conditional = False
    pretrained_by = "alae"

    GeneratorConfig = ALAEGeneratorConfig
    CriticConfig = ALAECriticConfig
    AutoencoderConfig = ALAEAutoencoderConfig

    def generator(self, config: ALAEGeneratorConfig) -> ALAEGenerator:
        """Build a generator."""
        return ALAEGenerator(config)

    def critic(self, config: ALAECriticConfig) -> ALAECritic:
        """Build a critic."""
        return ALAECritic(config)

    def autoencoder(self, config: ALAEAutoencoderConfig) -> ALAEAutoencoder:
        """Build an autoencoder."""
        return ALAEAutoencoder(config)

    def initialise(self, network: nn.Module) -> None:
        """Normal weights of variance gain^2 / fan in: gain 1 for styles, 0.03 towards the image, sqrt 2 elsewhere."""
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                gain = 1.0 if isinstance(module, Style) else 2**0.5
                inputs = (
                    module.in_features if isinstance(module, nn.Linear) else module.in_channels * module.kernel_size[0] ** 2
                )
                nn.init.normal_(module.weight, 0.0, gain / inputs**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, Decoder):
                nn.init.ones_(module.const)
        for module in network.modules():
            if isinstance(module, Decoder):
                for layer in (module.to_rgb, getattr(module, "to_rgb_before", None)):
                    if layer is not None:
                        nn.init.normal_(layer.weight, 0.0, 0.03 / layer.in_channels**0.5)

    def default_configs(
        self, size: int, channels: int, n_classes: int = 0, **settings: Any
    ) -> tuple[ALAEGeneratorConfig, ALAECriticConfig]:
        """See :meth:`Backbone.default_configs`; the function of the same name says which settings there are."""
        if n_classes:
            raise ConfigError("StyleALAE has no class-conditional form; leave the labels out")
        check_settings(default_configs, settings)
        generator, critic, _ = default_configs(size, channels, **settings)
        return generator, critic

    def growing(
        self, size: int, channels: int, **settings: Any
    ) -> tuple[_alae_growing.GrowingGenerator, _alae_growing.GrowingCritic, _alae_growing.Growth]:
        """Build a generator and a critic that grow together, with weights drawn from torch's global generator."""
        check_settings(default_configs, settings)
        generator, critic, _ = default_configs(size, channels, **settings)
        growth = _alae_growing.Growth()
        pair = _alae_growing.GrowingGenerator(generator, growth), _alae_growing.GrowingCritic(critic, Head(critic.head), growth)
        for network in pair:
            _alae_growing.initialise(network)
        return (*pair, growth)

    def step_sizes(self, network: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters of a growing network by the factor of their step size."""
        return _alae_growing.step_sizes(network)

    def grown(
        self,
        generator: _alae_growing.GrowingGenerator,
        critic: _alae_growing.GrowingCritic,
        encoder: _alae_growing.GrowingEncoder,
    ) -> dict[str, tuple[Description, dict[str, Tensor]]]:
        """Descriptions and tensors of generator, critic and autoencoder at the end of growing, by role.

        Args:
            generator: its synthesis is the autoencoder's decoder.
            critic: scores images.
            encoder: the autoencoder's; the critic's own, or one that was trained further.
        """
        g, d = generator.config, critic.config
        common = {k: getattr(g, k) for k in ("style_dim", "channels", "blend")}
        both = ALAEAutoencoderConfig(encoder=d.widths, decoder=g.widths, **common)
        made, critic_tensors = generator.finished(), critic.finished()
        parts = {f"encoder.{k}": v for k, v in encoder.finished().items()}
        parts |= {f"decoder.{k[10:]}": v for k, v in made.items() if k.startswith("synthesis.")}
        parts["mean_code"] = made["mapping.w_avg"][0].clone()
        tensors = {"generator": made, "critic": critic_tensors, "autoencoder": parts}
        configs: dict[Any, Config] = {"generator": g, "critic": d, "autoencoder": both}
        return {r: (Description("alae", r, c.model_dump(mode="json")), tensors[r]) for r, c in configs.items()}


def default_configs(
    size: int, channels: int, latent_dim: int = 256, width: int = 64, max_width: int = 256, mapping_layers: int = 8
) -> tuple[ALAEGeneratorConfig, ALAECriticConfig, ALAEAutoencoderConfig]:
    """Settings of a regular generator, critic and autoencoder.

    Args:
        size: side of the images, a power of two from 8 to 1024.
        channels: 1 or 3.
        latent_dim: numbers of a latent and of a style vector.
        width: channels next to the image; doubled at each halving of the side.
        max_width: most channels.
        mapping_layers: layers of F.

    Source: Pidhorskyi et al. 2020; FFHQ's 1024x1024 has latent_dim and max_width 512 and width 16.
    """
    levels = size.bit_length() - 2
    if not 2 <= levels <= 9 or size != 2 << levels:
        raise ConfigError(f"a StyleALAE has a side of 8, 16, 32, ... up to 1024, not {size}")
    widths = tuple(min(max_width, width << k) for k in range(levels))  # image side first
    common: dict[str, Any] = {"style_dim": latent_dim, "channels": channels}
    encoder = (*widths, min(max_width, width << levels))
    generator = {"widths": widths[::-1], "mapping": (latent_dim,) * (mapping_layers + 1)}
    critic = {"widths": encoder, "head": (latent_dim, latent_dim, latent_dim, 2 * latent_dim)}
    return (
        ALAEGeneratorConfig.model_validate(common | generator),
        ALAECriticConfig.model_validate(common | critic),
        ALAEAutoencoderConfig.model_validate(common | {"encoder": encoder, "decoder": widths[::-1]}),
    )


PLUGIN = ALAE()
