"""The contract of networks: what every part of regraft may expect of generators, critics and autoencoders."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor, nn

from regraft.core.errors import MissingCapability
from regraft.core.latent import Latent
from regraft.core.randomness import Rng

Noise = Literal["const", "random", "none"]


ClassHead = Literal["auto", "auxiliary", "projection"]


CENTRE_LATENTS = 4096
"""How many latents a mean style is measured on."""


@dataclasses.dataclass(frozen=True)
class ClassCode:
    """A point of a generator's class space that need not be one of its classes.

    Attributes:
        vector: (N, D); an embedding where the family has a table, else one gain and one shift per norm channel.
    """

    vector: Tensor


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some target data.

    Attributes:
        data: images (N, C, H, W) in [-1, 1], or codes (N, D).
        index: which target item each row is, (N,).
        labels: class of each row, (N,), or None.
    """

    data: Tensor
    index: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.data)


@dataclasses.dataclass(frozen=True)
class Description:
    """What is needed to build a network again, weights aside: a builder's name, the role, and plain settings."""

    kind: str
    role: Literal["generator", "critic", "autoencoder"]
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Styles:
    """The two networks of a generator that maps latents to styles, and its mean style.

    Attributes:
        mapping: maps latents (N, dim), and classes (None without any), to styles (N, num_ws, w_dim).
        synthesis: called with styles, the kind of noise and a random generator or None; returns images (N, C, H, W).
        mean: the mean style, towards which truncation pulls, (w_dim,) or (num_ws, w_dim).
    """

    mapping: Callable[[Tensor, Tensor | ClassCode | None], Tensor]
    synthesis: nn.Module
    mean: Tensor


class Generator(nn.Module, abc.ABC):
    """Turns latents into images.

    Attributes:
        latent: distribution of the input.
        n_classes: number of classes, 0 for an unconditional generator.
        size: height and width of the images.
        channels: 1 or 3.
    """

    latent: Latent
    n_classes: int = 0
    size: tuple[int, int]
    channels: int

    @abc.abstractmethod
    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """Make images.

        Args:
            z: latents, (N, dim).
            y: class indices (N,), a class code, or None where there are no classes.
            psi: truncation in [0, 1]: 1 leaves the distribution as trained, smaller values trade variety for typicality.
            noise: ``const`` is deterministic; ``random`` draws fresh noise maps from ``rng``; ``none`` leaves them out.
            rng: needed for ``random``; one generator, or one per row.

        Returns:
            Images, (N, C, H, W), nominally in [-1, 1] and never clamped.
        """

    def embed(self, y: Tensor) -> ClassCode:
        """Look up class indices (N,) or mix classes with weights (N, n_classes)."""
        raise MissingCapability(f"this {type(self).__name__} has no classes; leave the class out.")

    def with_classes(self, n: int, how: Literal["norm", "concat"] = "norm") -> "Generator":
        """Make a conditional generator whose images equal this one's for every class until it is trained."""
        raise MissingCapability(f"a {type(self).__name__} cannot be given classes; adapt it without labels.")

    def with_class_mix(self, weights: Tensor) -> "Generator":
        """Make a conditional generator whose class k is, until trained, this one's classes mixed by row k of (new, old)."""
        raise MissingCapability(f"the classes of a {type(self).__name__} cannot be exchanged; adapt it without labels.")

    @property
    def styles(self) -> Styles | None:
        """Mapping, synthesis and mean style of a generator that shows its styles, None for all others.

        Made anew at each access from the generator's own modules, so that a copy never shows those of its original.
        """
        return None

    @property
    def style_path(self) -> list[nn.Module]:
        """Modules between latents and styles; if one of them is trained, the mean style must be measured again."""
        return []

    def measure_mean_style(self, z: Tensor | None = None) -> None:
        """Measure the mean style again; does nothing where there are no styles.

        Args:
            z: latents (N, dim) to measure it on; some of a fixed seed if left out.
        """

    def describe(self) -> Description:
        """Say how to build this network again."""
        raise MissingCapability(
            f"a {type(self).__name__} was handed over as a Python module, so regraft cannot write it as a stand-alone file; "
            "keep the adapter and pass the module as its source."
        )

    @property
    def stages(self) -> list[nn.Module]:
        """Sub-modules in the order of computation, latent side first."""
        return leading_children(self)

    @property
    def norms(self) -> list[nn.Module]:
        """Normalisation layers whose output BSA scales and shifts."""
        return [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


class Critic(nn.Module, abc.ABC):
    """Scores images: high for real ones.

    Attributes:
        size, channels: what it takes.
        n_classes: number of classes that ``forward`` and ``classify`` know, 0 for none.
    """

    size: tuple[int, int]
    channels: int
    n_classes: int = 0

    @abc.abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Score images (N, C, H, W); returns (N,), unbounded.  ``y=None`` leaves any class term out."""

    def classify(self, x: Tensor) -> Tensor:
        """Class logits (N, n_classes) of an auxiliary classifier head."""
        raise MissingCapability(f"this {type(self).__name__} has no classifier head.")

    @property
    def classifies(self) -> bool:
        """Whether there is an auxiliary classifier head."""
        return self.n_classes > 0 and type(self).classify is not Critic.classify

    def score_and_classify(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N,) without any class term, and class logits (N, n_classes), in one pass where a family can."""
        return self(x), self.classify(x)

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "Critic":
        """The same critic with a new class head; scores without a class stay the same.

        Args:
            n: classes.
            seed: the head's weights are drawn from it.
            head: auxiliary classifier, projection, or what the family prefers.

        Raises:
            MissingCapability: if the family has no such head.
        """
        raise MissingCapability(f"a {type(self).__name__} cannot be given classes; adapt it without labels.")

    def describe(self) -> Description:
        """Say how to build this network again."""
        raise MissingCapability(f"a {type(self).__name__} was handed over as a Python module and cannot be written to a file.")

    @property
    def stages(self) -> list[nn.Module]:
        """Sub-modules in the order of computation, image side first."""
        return leading_children(self)

    @property
    def batch_dependent(self) -> bool:
        """Whether, in the present mode, an image's score depends on its batch-mates."""
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in self.modules())


class Autoencoder(nn.Module, abc.ABC):
    """Encodes images to codes and decodes them.

    Attributes:
        size, channels: the images.
        code_shape: shape of one code.
        code_range: ``none``, ``tanh`` (codes in [-1, 1]) or ``relu`` (codes at least 0).
        mean_code: mean code of its training data, ``code_shape``, or None.
    """

    size: tuple[int, int]
    channels: int
    code_shape: tuple[int, ...]
    code_range: Literal["none", "tanh", "relu"] = "none"
    mean_code: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_code", None)

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] to codes (N, *code_shape)."""

    @abc.abstractmethod
    def decode(self, codes: Tensor, *, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Codes (N, *code_shape) to images (N, C, H, W), not clamped."""

    def describe(self) -> Description:
        """Say how to build this network again."""
        raise MissingCapability(f"a {type(self).__name__} was handed over as a Python module and cannot be written to a file.")


def leading_children(module: nn.Module) -> list[nn.Module]:
    """Children of a module, single-child containers opened."""
    children = list(module.children())
    while len(children) == 1 and list(children[0].children()):
        children = list(children[0].children())
    return children


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules in evaluation mode inside the block; every sub-module's flag is put back afterwards.

    Flags are set, ``eval()`` is not called: generators whose authors sample with the batch's statistics keep their norms on
    these in ``eval()``, and use the stored ones in here, where no image may depend on its batch-mates.
    """
    flags = [(m, m.training) for module in modules for m in module.modules()]
    for m, _ in flags:
        m.training = False
    try:
        yield
    finally:
        for m, training in flags:
            m.training = training
