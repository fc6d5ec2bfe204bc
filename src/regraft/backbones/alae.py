"""StyleALAE: a style generator, an encoder into its style space, and a critic that is a head on the encoder.

Generator = G(F(z)), critic = D(E(x)), autoencoder = (E, G).  A network that is still growing shows its last level blended
with the one before.

Source: Pidhorskyi et al. 2020, "Adversarial latent autoencoders".
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regraft.backbones import _alae_growing
from regraft.backbones._alae import Decoder, Encoder, Head, Mapping, Style, Weighted, fan_in
from regraft.backbones._alae_config import ALAEAutoencoderConfig, ALAECriticConfig, ALAEGeneratorConfig, image_size
from regraft.backbones._alae_growing import GrowingCritic, GrowingEncoder, GrowingGenerator, Growth
from regraft.backbones.base import Backbone, check_settings
from regraft.core.config import Objective, Recipe
from regraft.core.errors import ConfigError
from regraft.core.latent import Latent
from regraft.core.networks import Autoencoder, ClassCode, Critic, Description, Generator, Noise, Styles
from regraft.core.randomness import Rng

# The growing networks are for the method that trains them.
__all__ = ["ALAE", "PLUGIN", "GrowingCritic", "GrowingEncoder", "GrowingGenerator", "Growth", "default_configs"]


class ALAEGenerator(Generator):
    """The generator G(F(z))."""

    def __init__(self, config: ALAEGeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.latent = Latent(config.mapping[0])
        self.channels, self.size = config.channels, image_size(len(config.widths))
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
        """See :meth:`Generator.forward`; ``psi`` truncates the first ``truncated_ws`` style vectors only, as the authors do.

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
        """The mapping, then the blocks and image layers of the synthesis."""
        return [self.mapping, *self.synthesis.stages]

    @property
    def norms(self) -> list[nn.Module]:
        """The style layers, which give the instance norms their gains and shifts."""
        return self.synthesis.styles


class ALAECritic(Critic):
    """The critic D(E(x))."""

    def __init__(self, config: ALAECriticConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.size = config.channels, image_size(len(config.widths) - 1)
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
        """The image layers and blocks of the encoder, then the head."""
        return [*self.encoder.stages, self.head]


class ALAEAutoencoder(Autoencoder):
    """The autoencoder (E, G): a code is one style vector, which the decoder uses at every level."""

    def __init__(self, config: ALAEAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.size, self.code_shape = config.channels, image_size(len(config.decoder)), (config.style_dim,)
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
        """Draw normal weights of variance gain^2 / fan in: gain 1 for styles, 0.03 towards the image, sqrt 2 elsewhere."""
        for module in network.modules():
            if isinstance(module, Weighted):
                gain = 1.0 if isinstance(module, Style) else 2**0.5
                nn.init.normal_(module.weight, 0.0, gain / fan_in(module) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, Decoder):
                nn.init.ones_(module.const)
        # Image layers are drawn once more, after all others, so that a seed gives the networks that it always gave.
        for module in network.modules():
            if isinstance(module, Decoder):
                for layer in (module.to_rgb, module.to_rgb_before):
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

    def growing(self, size: int, channels: int, **settings: Any) -> tuple[GrowingGenerator, GrowingCritic, Growth]:
        """Build a generator and a critic that grow together, with weights drawn from torch's global generator.

        Args:
            size: side of the images when all levels have grown.
            channels: 1 or 3.
            settings: those of :func:`default_configs`.

        Returns:
            Generator, critic, and the state of growing that they share.
        """
        check_settings(default_configs, settings)
        generator_config, critic_config, _ = default_configs(size, channels, **settings)
        growth = Growth()
        generator, critic = GrowingGenerator(generator_config, growth), GrowingCritic(critic_config, growth)
        for network in (generator, critic):
            _alae_growing.initialise(network)
        return generator, critic, growth

    def step_sizes(self, network: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        """Group the parameters of a growing network by the factor of their step size."""
        return _alae_growing.step_sizes(network)

    def export_grown(
        self, generator: GrowingGenerator, critic: GrowingCritic, encoder: GrowingEncoder
    ) -> dict[str, tuple[Description, dict[str, Tensor]]]:
        """Return descriptions and tensors of generator, critic and autoencoder at the end of growing, by role.

        Args:
            generator: its synthesis is also the autoencoder's decoder.
            critic: scores images.
            encoder: the autoencoder's; either the critic's own or one that was trained further.
        """
        g, d = generator.config, critic.config
        common: dict[str, Any] = {"style_dim": g.style_dim, "channels": g.channels, "blend": g.blend}
        a = ALAEAutoencoderConfig(encoder=d.widths, decoder=g.widths, **common)
        tensors, stem = generator.final_tensors(), "synthesis."
        parts = {f"encoder.{k}": v for k, v in encoder.final_tensors().items()}
        parts |= {f"decoder.{k.removeprefix(stem)}": v for k, v in tensors.items() if k.startswith(stem)}
        parts["mean_code"] = tensors["mapping.w_avg"][0].clone()
        return {
            "generator": (Description("alae", "generator", g.model_dump(mode="json")), tensors),
            "critic": (Description("alae", "critic", d.model_dump(mode="json")), critic.final_tensors()),
            "autoencoder": (Description("alae", "autoencoder", a.model_dump(mode="json")), parts),
        }


def default_configs(
    size: int, channels: int, latent_dim: int = 256, width: int = 64, max_width: int = 256, mapping_layers: int = 8
) -> tuple[ALAEGeneratorConfig, ALAECriticConfig, ALAEAutoencoderConfig]:
    """Return the settings of an ordinary generator, critic and autoencoder.

    Args:
        size: side of the images, a power of two from 8 to 1024.
        channels: 1 or 3.
        latent_dim: numbers of a latent and of a style vector.
        width: channels next to the image; doubled at each halving of the side.
        max_width: upper bound of the channels.
        mapping_layers: number of layers of F.

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
