"""Parts that style-based generators and their critic share: equalised linear layers, the mapping network, and the base class of
generators that map latents to styles and synthesise images from styles.

Source: Karras et al. 2019, "A style-based generator architecture for GANs"; Karras et al. 2020, "Analyzing and improving the
image quality of StyleGAN".
"""

import abc
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.backbones._conditional import mix_class_axis
from regraft.core.errors import MissingCapability
from regraft.core.latent import Latent
from regraft.core.networks import CENTRE_LATENTS, ClassCode, Generator, Noise, Styles
from regraft.core.randomness import Rng, generator_at

SLOPE = 0.2
GAIN = math.sqrt(2)


class Dense(nn.Module):
    """An equalised linear layer: y = lr / sqrt(inputs) W x + lr b, with W drawn from N(0, 1 / lr^2).

    Adam moves every stored value by about its step size, so the layer learns ``lr`` times as fast as one with ``lr=1``.  This
    makes the mapping network slow, in fine-tuning as in training, without a step size of its own.
    """

    def __init__(self, inputs: int, outputs: int, *, activate: bool = False, lr: float = 1.0, bias_start: float = 0.0) -> None:
        super().__init__()
        self.activate, self.lr, self.bias_start = activate, lr, bias_start
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.full([outputs], bias_start))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs), in the weight's precision; with ``activate`` a leaky ReLU follows."""
        with torch.autocast(x.device.type, enabled=False):
            scale = self.lr / math.sqrt(self.weight.shape[1])
            y = torch.addmm(self.bias, x.to(self.weight.dtype), self.weight.t(), beta=self.lr, alpha=scale)
            return F.leaky_relu(y, SLOPE) * GAIN if self.activate else y

    def initialise(self) -> None:
        """Draw fresh weights, N(0, 1 / lr^2)."""
        nn.init.normal_(self.weight, 0.0, 1 / self.lr)
        nn.init.constant_(self.bias, self.bias_start)


class Mapping(nn.Module):
    """The mapping network: latents and classes to styles.

    Attributes:
        w_avg: mean style (w_dim,), towards which truncation pulls; only with ``track_mean``, which a critic's mapping lacks.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        layers: int = 8,
        lr: float = 0.01,
        embed_features: int | None = None,
        layer_features: int | None = None,
        track_mean: bool = True,
    ) -> None:
        """Lay out the network.

        Args:
            z_dim: width of latents, 0 where only classes are mapped.
            c_dim: number of classes, 0 for none.
            w_dim: width of styles.
            num_ws: number of rows of styles, 0 for a result (N, w_dim) without rows.
            layers: number of fully connected layers.
            lr: equalised learning rate of these layers.
            embed_features: width of the class embedding, ``w_dim`` if left out.
            layer_features: width of hidden layers, ``w_dim`` if left out.
            track_mean: whether the network has a mean style.
        """
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.layers = z_dim, c_dim, w_dim, num_ws, layers
        embedding = (embed_features or w_dim) if c_dim else 0
        widths = [z_dim + embedding, *[layer_features or w_dim] * (layers - 1), w_dim] if layers else [w_dim]
        if c_dim:
            self.embed = Dense(c_dim, embedding)
        for i in range(layers):
            setattr(self, f"fc{i}", Dense(widths[i], widths[i + 1], activate=True, lr=lr))
        self.track_mean = track_mean
        if track_mean:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, y: Tensor | ClassCode | None = None) -> Tensor:
        """Map to styles.

        Args:
            z: latents (N, z_dim), None where only classes are mapped.
            y: class indices (N,) or a class code; ignored where there are no classes.

        Returns:
            (N, num_ws, w_dim), all rows alike; (N, w_dim) where ``num_ws`` is 0.
        """
        parts = [] if z is None or not self.z_dim else [normalised(z)]
        if self.c_dim:
            if y is None:
                raise MissingCapability("this generator is conditional: give class indices or a class code as y")
            parts.append(normalised((y if isinstance(y, ClassCode) else self.embed_code(y)).vector))
        w = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        for i in range(self.layers):
            w = getattr(self, f"fc{i}")(w)
        return w[:, None].expand(-1, self.num_ws, -1) if self.num_ws else w

    def embed_code(self, y: Tensor) -> ClassCode:
        """Return the class code of class indices (N,) or weights (N, c_dim)."""
        if not self.c_dim:
            raise MissingCapability("this network has no classes; leave the class out.")
        weights = y if y.is_floating_point() else F.one_hot(y, self.c_dim)
        return ClassCode(self.embed(weights.to(self.embed.weight)))

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Return w_avg + psi * (w - w_avg): ``psi`` 1 leaves styles as they are, 0 gives the mean style."""
        return w if psi == 1.0 else self.w_avg.lerp(w, psi)

    def initialise(self) -> None:
        """Draw fresh weights; the mean style starts at zero."""
        for layer in self.children():
            cast(Dense, layer).initialise()
        if self.track_mean:
            self.w_avg.zero_()


class StyleGenerator(Generator):
    """A generator of two networks: the mapping from latents to styles, and the synthesis from styles to images.

    Attributes:
        mapping: latents and classes to styles (N, num_ws, w_dim).
        synthesis: called with styles, the kind of noise and a random generator; gives images.
    """

    mapping: Mapping
    synthesis: nn.Module

    def __init__(self, z_dim: int, c_dim: int, resolution: int, channels: int) -> None:
        super().__init__()
        self.latent = Latent(z_dim)
        self.n_classes, self.size, self.channels = c_dim, (resolution, resolution), channels

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` truncates all rows of styles."""
        w = self.mapping.truncate(self.mapping(z, y), psi)
        image: Tensor = self.synthesis(w, noise, rng)
        return image

    @abc.abstractmethod
    def rebuild(self, **changes: object) -> "StyleGenerator":
        """Build a generator with these settings changed; its weights are not to be relied on."""

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`."""
        return self.mapping.embed_code(y) if self.n_classes else super().embed(y)

    def with_class_mix(self, weights: Tensor) -> Generator:
        """See :meth:`Generator.with_class_mix`."""
        if not self.n_classes:
            return super().with_class_mix(weights)
        mixed = mix_class_axis(lambda n: self.rebuild(c_dim=n), self, weights)
        # The equalised layer divides by the square root of its inputs, which are as many as classes.
        mixed.mapping.embed.weight.data.mul_(math.sqrt(len(weights) / self.n_classes))
        return mixed

    @property
    def styles(self) -> Styles:
        """See :meth:`Generator.styles`."""
        return Styles(self.mapping, self.synthesis, self.mapping.w_avg)

    @property
    def style_path(self) -> list[nn.Module]:
        """See :meth:`Generator.style_path`."""
        return [self.mapping]

    @torch.no_grad()
    def measure_mean_style(self, z: Tensor | None = None) -> None:
        """See :meth:`Generator.measure_mean_style`."""
        device = self.mapping.w_avg.device
        rng = generator_at(0, "mean style")
        z = self.latent.sample(CENTRE_LATENTS, rng).to(device) if z is None else z
        y = torch.randint(self.n_classes, (len(z),), generator=rng).to(device) if self.n_classes else None
        self.mapping.w_avg.copy_(self.mapping(z, y)[:, 0].mean(0))


def normalised(x: Tensor) -> Tensor:
    """Scale the rows of (N, D) to unit mean square."""
    x = at_least_single(x)
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def at_least_single(x: Tensor) -> Tensor:
    """Turn half precision into float32; leave other types as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def minibatch_stddev(x: Tensor, group: int | None, channels: int) -> Tensor:
    """Append ``channels`` maps that hold the standard deviation of features over groups of images, averaged to one number each.

    Args:
        x: features (N, C, H, W); ``channels`` divides C.
        group: images per group, None for all.  Image i is in group i mod ceil(N / group); where N is no multiple of the group
            size, groups are as even as possible (the published code refuses that).
        channels: number of maps to append.

    Source: Karras et al. 2018, section 3.
    """
    n, c, h, w = x.shape
    groups = -(-n // min(group or n, n))
    # (N, F, C / F, H, W)
    parts = at_least_single(x).reshape(n, channels, c // channels, h, w)
    spread = [(parts[k::groups].var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)) for k in range(groups)]
    rows = torch.stack(spread)[torch.arange(n, device=x.device) % groups].to(x.dtype)
    return torch.cat([x, rows[:, :, None, None].expand(n, channels, h, w)], dim=1)


def add_class_inputs(mapping: Mapping, n: int) -> dict[str, Tensor]:
    """Return the tensors of a mapping with ``n`` classes that gives the styles of this one, which has none, for every class.

    In the first layer the columns of the class embedding are zero; the other columns are scaled, because the equalised layer
    divides by the square root of its inputs.
    """
    tensors = {k: v.detach().clone() for k, v in mapping.state_dict().items()}
    first = tensors["fc0.weight"]
    inputs, embedding = first.shape[1], mapping.w_dim
    scaled = first * math.sqrt((inputs + embedding) / inputs)
    tensors["fc0.weight"] = torch.cat([scaled, first.new_zeros(len(first), embedding)], dim=1)
    rng = torch.Generator().manual_seed(0)
    tensors["embed.weight"] = torch.randn(embedding, n, generator=rng).to(first)
    tensors["embed.bias"] = first.new_zeros(embedding)
    return tensors
