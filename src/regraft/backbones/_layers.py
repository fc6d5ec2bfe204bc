"""Networks given as a list of layers: what home-made DCGANs and MLP GANs are made of."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.backbones import _conditional
from regraft.backbones._layer_config import Activation, LayerConfig, LayeredCriticConfig, LayeredGeneratorConfig
from regraft.core.errors import MissingCapability
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, ClassHead, Conditioning, Critic, Description, Generator, Noise
from regraft.core.randomness import Rng


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation of vectors and maps alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        return None


class ClassNorm(nn.Module):
    """Batch normalisation whose gain and shift are looked up by class."""

    def __init__(self, n_classes: int, channels: int, eps: float) -> None:
        super().__init__()
        self.channels = channels
        self.norm = BatchNorm(channels, eps=eps, affine=False)
        self.gain = nn.Parameter(torch.ones(n_classes, channels))
        self.shift = nn.Parameter(torch.zeros(n_classes, channels))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise ``x``, (N, C) or (N, C, H, W), under codes (N, 2 C): gains, then shifts."""
        gain, shift = (part.reshape(*part.shape, *[1] * (x.dim() - 2)) for part in code.chunk(2, dim=1))
        normalised: Tensor = self.norm(x)
        return normalised * gain + shift


class Stage(nn.Module):
    """One layer with the upsampling before it and the view, norm and activation after it."""

    def __init__(self, config: LayerConfig, n_classes: int = 0) -> None:
        super().__init__()
        self.config = config
        c = config
        self.weights: nn.Linear | nn.Conv2d | nn.ConvTranspose2d
        if c.kind == "linear":
            self.weights = nn.Linear(c.inputs, c.outputs, bias=c.bias)
        elif c.kind == "conv":
            self.weights = nn.Conv2d(c.inputs, c.outputs, c.kernel, c.stride, c.padding, bias=c.bias)
        else:
            self.weights = nn.ConvTranspose2d(c.inputs, c.outputs, c.kernel, c.stride, c.padding, c.output_padding, bias=c.bias)
        self.norm: ClassNorm | BatchNorm | nn.InstanceNorm2d | None = None
        if c.norm == "batch" and n_classes:
            self.norm = ClassNorm(n_classes, c.norm_channels, c.norm_eps)
        elif c.norm == "batch":
            self.norm = BatchNorm(c.norm_channels, eps=c.norm_eps)
        elif c.norm == "instance":
            self.norm = nn.InstanceNorm2d(c.norm_channels, eps=c.norm_eps, affine=True)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """Apply the stage to vectors (N, D) or maps (N, C, H, W); ``code`` is the class code of a :class:`ClassNorm`."""
        c = self.config
        if c.kind == "linear":
            x = x.flatten(1)
        elif x.dim() == 2:
            x = x[:, :, None, None]
        if c.upsample > 1:
            x = F.interpolate(x, scale_factor=c.upsample, mode="nearest")
        x = self.weights(x)
        if c.view:
            x = x.view(len(x), *c.view)
        if isinstance(self.norm, ClassNorm):
            x = self.norm(x, code)
        elif self.norm is not None:
            x = self.norm(x)
        return _activate(x, c.activation, c.slope)


def _activate(x: Tensor, name: Activation, slope: float) -> Tensor:
    if name == "none":
        return x
    if name == "leaky_relu":
        return F.leaky_relu(x, slope)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": F.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "elu": F.elu,
        "selu": F.selu,
        "gelu": F.gelu,
        "silu": F.silu,
    }
    return functions[name](x)


class LayeredGenerator(Generator):
    """A generator given as a list of layers."""

    def __init__(self, kind: str, config: LayeredGeneratorConfig) -> None:
        super().__init__()
        self.kind, self.config = kind, config
        self.latent = Latent(**config.latent.model_dump())
        self.n_classes = config.n_classes
        self.channels, *size = config.image_shape
        self.size = (size[0], size[1])
        if config.conditioning == "concat":
            self.classes = nn.Parameter(torch.zeros(config.n_classes, config.class_dim))
        table_rows = config.n_classes if config.conditioning == "norm" else 0
        self.layers = nn.ModuleList(Stage(layer, table_rows) for layer in config.layers)

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; there is no mapping network, so ``psi`` scales the latent."""
        x = z if psi == 1.0 else z * psi
        codes: list[Tensor | None] = [None] * len(self.layers)
        if self.n_classes:
            vector = _conditional.require_code(self, y).vector
            if self.config.conditioning == "concat":
                x = torch.cat([x, vector.to(x)], dim=1)
            else:
                codes = self._split(vector)
        for stage, code in zip(self.layers, codes, strict=True):
            x = stage(x, code)
        return x * 2 - 1 if self.config.image_range == "unit" else x

    def embed(self, y: Tensor) -> ClassCode:
        """See :meth:`Generator.embed`: the class vector, or the gains and shifts of all norms, side by side."""
        if not self.n_classes:
            return super().embed(y)
        if self.config.conditioning == "concat":
            table: Tensor = self.classes
        else:
            table = torch.cat([torch.cat([n.gain, n.shift], dim=1) for n in self.norms if isinstance(n, ClassNorm)], dim=1)
        return ClassCode(y @ table if y.is_floating_point() else table[y])

    def _split(self, vector: Tensor) -> list[Tensor | None]:
        """Cut a class code into one part per stage, None for stages without a conditional norm."""
        codes: list[Tensor | None] = []
        start = 0
        for stage in self.layers:
            norm = stage.norm
            width = 2 * norm.channels if isinstance(norm, ClassNorm) else 0
            codes.append(vector[:, start : start + width] if width else None)
            start += width
        return codes

    @property
    def conditionings(self) -> tuple[Conditioning, ...]:
        """See :attr:`Generator.conditionings`."""
        if self.n_classes:
            return ()
        return ("norm", "concat") if self.norms else ("concat",)

    def with_classes(self, n: int, how: Conditioning = "norm") -> "LayeredGenerator":
        """See :meth:`Generator.with_classes`: equal rows for all classes in every norm, or zero columns for a one-hot class."""
        if self.n_classes:
            raise MissingCapability("this generator already has classes")
        config = self.config.model_dump()
        if how == "norm":
            if not self.norms:
                raise MissingCapability("this generator has no normalisation layers to condition; use how='concat'")
            config |= {"n_classes": n, "conditioning": "norm"}
        else:
            config |= {"n_classes": n, "conditioning": "concat", "class_dim": n}
            first = dict(config["layers"][0])
            first["inputs"] += n
            config["layers"] = (first, *config["layers"][1:])
        conditional = LayeredGenerator(self.kind, LayeredGeneratorConfig.model_validate(config))
        conditional.load_state_dict(self._conditional_tensors(n, how), strict=True)
        return conditional.train(self.training)

    def with_class_mix(self, weights: Tensor) -> "LayeredGenerator":
        """See :meth:`Generator.with_class_mix`."""
        if not self.n_classes:
            return cast(LayeredGenerator, super().with_class_mix(weights))
        return _conditional.mix_class_axis(
            lambda n: LayeredGenerator(self.kind, self.config.model_copy(update={"n_classes": n})), self, weights
        )

    def _conditional_tensors(self, n: int, how: str) -> dict[str, Tensor]:
        """Return the tensors of the generator that :meth:`with_classes` makes."""
        tensors = {}
        for name, value in self.state_dict().items():
            stage, _, leaf = name.rpartition(".")
            if how == "norm" and stage.endswith(".norm"):
                if leaf in ("weight", "bias"):
                    tensors[f"{stage}.{'gain' if leaf == 'weight' else 'shift'}"] = value.expand(n, -1).clone()
                else:
                    tensors[f"{stage}.norm.{leaf}"] = value.clone()
            elif how == "concat" and name == "layers.0.weights.weight":
                axis = 0 if self.config.layers[0].kind == "deconv" else 1
                zeros = value.new_zeros([n if i == axis else side for i, side in enumerate(value.shape)])
                tensors[name] = torch.cat([value, zeros], dim=axis)
            else:
                tensors[name] = value.clone()
        if how == "concat":
            tensors["classes"] = torch.eye(n)
        return tensors

    def describe(self) -> Description:
        """See :meth:`Generator.describe`."""
        return Description(self.kind, "generator", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The layers, latent side first."""
        return list(self.layers)

    @property
    def norms(self) -> list[nn.Module]:
        """The norms, latent side first."""
        return [stage.norm for stage in self.layers if isinstance(stage.norm, nn.Module)]


class LayeredCritic(Critic):
    """A critic given as a list of layers."""

    def __init__(self, kind: str, config: LayeredCriticConfig) -> None:
        super().__init__()
        self.kind, self.config = kind, config
        self.channels, self.size, self.n_classes = config.channels, config.size, config.n_classes
        self.layers = nn.ModuleList(Stage(layer) for layer in config.layers)
        if config.head == "projection":
            self.classes = nn.Embedding(config.n_classes, config.feature_shape[0])
        elif config.head == "auxiliary":
            self.classifier = nn.Linear(math.prod(config.feature_shape), config.n_classes)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`."""
        features = self._features(x)
        scores: Tensor = self.layers[-1](features).reshape(len(x))
        if y is None or self.config.head != "projection":
            return scores
        pooled = features if features.dim() == 2 else features.sum((2, 3))
        aligned: Tensor = (self.classes(y) * pooled).sum(1)
        return scores + aligned

    def classify(self, x: Tensor) -> Tensor:
        """See :meth:`Critic.classify`."""
        if self.config.head != "auxiliary":
            return super().classify(x)
        return self.score_and_classify(x)[1]

    @property
    def classifies(self) -> bool:
        """See :attr:`Critic.classifies`."""
        return self.config.head == "auxiliary"

    def score_and_classify(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Critic.score_and_classify`."""
        features = self._features(x)
        return self.layers[-1](features).reshape(len(x)), self.classifier(features.flatten(1))

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "LayeredCritic":
        """See :meth:`Critic.with_classes`."""
        head = _conditional.choose_head(self.config.head, head)
        config = self.config.model_copy(update={"n_classes": n, "head": head})
        prefix = "classifier." if head == "auxiliary" else "classes."
        conditional = _conditional.replace_head(lambda: LayeredCritic(self.kind, config), self, prefix, seed)
        if head == "projection":
            conditional.classes.weight.data.mul_(0.02)
        return conditional

    def _features(self, x: Tensor) -> Tensor:
        if self.config.image_range == "unit":
            x = (x + 1) / 2
        if self.config.resize:
            x = F.interpolate(x, self.config.resize, mode="bilinear", align_corners=False)
        for stage in self.stages[:-1]:
            x = stage(x)
        return x

    def describe(self) -> Description:
        """See :meth:`Critic.describe`."""
        return Description(self.kind, "critic", self.config.model_dump(mode="json"))

    @property
    def stages(self) -> list[nn.Module]:
        """The layers, image side first."""
        return list(self.layers)


def initialise(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02^2) before norms and in the last layer, as DCGAN does; elsewhere with He's variance.

    Source: Radford et al. 2016, section 3; He et al. 2015.
    """
    stages = [m for m in network.modules() if isinstance(m, Stage)]
    for stage in stages:
        weight = stage.weights.weight
        if stage.norm is not None or stage is stages[-1]:
            nn.init.normal_(weight, 0.0, 0.02)
        else:
            nn.init.kaiming_normal_(weight, a=stage.config.slope, mode="fan_in" if stage.config.kind != "deconv" else "fan_out")
        if stage.weights.bias is not None:
            nn.init.zeros_(stage.weights.bias)
        if isinstance(stage.norm, BatchNorm):
            nn.init.normal_(stage.norm.weight, 1.0, 0.02)
            nn.init.zeros_(stage.norm.bias)
    if isinstance(network, LayeredGenerator) and network.config.conditioning == "concat":
        eye = torch.eye(network.config.n_classes, network.config.class_dim)
        one_hot = network.config.class_dim == network.config.n_classes
        network.classes.data.copy_(eye if one_hot else torch.randn_like(eye))
    if isinstance(network, LayeredCritic) and network.config.head == "projection":
        nn.init.normal_(network.classes.weight, 0.0, 0.02)
