"""The contract of networks: what every part of regraft may expect of generators, critics and autoencoders."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from regraft.core.errors import MissingCapability
from regraft.core.latent import Latent
from regraft.core.randomness import Rng

Noise = Literal["const", "random", "none"]

ClassHead = Literal["auto", "auxiliary", "projection"]


Conditioning = Literal["norm", "concat"]

CENTRE_LATENTS = 4096
"""Number of latents that a mean style is measured on."""


@dataclasses.dataclass(frozen=True)
class ClassCode:
    """A point of a generator's class space that need not be one of its classes.

    Attributes:
        vector: (N, D); embeddings if the family has a table of them, else one gain and one shift per norm channel.
    """

    vector: Tensor


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some items of the target data.

    Attributes:
        data: images (N, C, H, W) in [-1, 1], or codes (N, D).
        index: index of each row among all target items, (N,).
        labels: class of each row, (N,), or None.
    """

    data: Tensor
    index: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.data)


@dataclasses.dataclass(frozen=True)
class Description:
    """What is needed to build a network again, apart from its weights.

    Attributes:
        kind: name of a backbone or of a composite generator.
        role: which of its networks this is.
        config: plain settings of the network.
    """

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
        latent: distribution of the input z.
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
            psi: truncation in [0, 1]: 1 samples as trained, smaller values give more typical and less varied images.
            noise: ``const`` uses stored noise maps, or the family's own stand-in for them, and is deterministic;
                ``random`` draws new maps from ``rng``; ``none`` adds none.
            rng: needed for ``random``; one random generator, or one per row.

        Returns:
            Images, (N, C, H, W), nominally in [-1, 1] and never clamped.
        """

    def embed(self, y: Tensor) -> ClassCode:
        """Return the class codes of class indices (N,), or of mixtures of classes with weights (N, n_classes)."""
        raise MissingCapability(f"this {type(self).__name__} has no classes; leave the class out.")

    @property
    def conditionings(self) -> tuple[Conditioning, ...]:
        """Ways in which :meth:`with_classes` can add classes, the family's preferred one first; empty if it cannot."""
        can = not self.n_classes and type(self).with_classes is not Generator.with_classes
        return ("norm", "concat") if can else ()

    def with_classes(self, n: int, how: Conditioning = "norm") -> "Generator":
        """Return a generator with ``n`` new classes; before training, it makes this one's images for every class.

        Args:
            n: classes.
            how: ``norm`` gives each norm one gain and shift per class; ``concat`` joins a class vector to the latent.

        Raises:
            MissingCapability: if the family cannot do that.
        """
        raise MissingCapability(f"a {type(self).__name__} cannot be given classes; adapt it without labels.")

    def with_class_mix(self, weights: Tensor) -> "Generator":
        """Return a generator with new classes; before training, each is a mixture of this one's classes.

        Args:
            weights: share of each old class in each new one, (new, old).

        Raises:
            MissingCapability: if the family cannot do that.
        """
        raise MissingCapability(f"the classes of a {type(self).__name__} cannot be exchanged; adapt it without labels.")

    @property
    def styles(self) -> Styles | None:
        """Mapping, synthesis and mean style of a generator that gives access to its styles; None for all others.

        Each access makes it anew from the generator's own modules, so that a copied generator has styles of its own.
        """
        return None

    @property
    def members(self) -> Sequence["Generator"]:
        """Generators that this one chooses from for each image, each with latents of its own; empty if it is only one."""
        return ()

    @property
    def style_path(self) -> list[nn.Module]:
        """Modules that map latents to styles: once one of them is trained, the mean style must be measured again."""
        return []

    def measure_mean_style(self, z: Tensor | None = None) -> None:
        """Measure the mean style again; does nothing where there are no styles.

        Args:
            z: latents (N, dim) to measure it on; ``CENTRE_LATENTS`` of a fixed seed if left out.
        """

    def describe(self) -> Description:
        """Return what is needed to build this network again, apart from its weights."""
        raise MissingCapability(
            f"a {type(self).__name__} was handed over as a Python module, so regraft cannot write it as a stand-alone file; "
            "keep the adapter and pass the module as its source."
        )

    @property
    def stages(self) -> list[nn.Module]:
        """Sub-modules in the order of computation, from latents to images."""
        return leading_children(self)

    @property
    def norms(self) -> list[nn.Module]:
        """Normalisation layers, whose outputs BSA scales and shifts."""
        return [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


class Critic(nn.Module, abc.ABC):
    """Scores images; real ones are to score high.

    Attributes:
        size, channels: height and width, and channels, of the images that it takes.
        n_classes: number of classes that ``forward`` and ``classify`` know, 0 for none.
    """

    size: tuple[int, int]
    channels: int
    n_classes: int = 0

    @abc.abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            x: images (N, C, H, W).
            y: class indices (N,); None leaves any class term out.

        Returns:
            Unbounded scores (N,), before any sigmoid.
        """

    def classify(self, x: Tensor) -> Tensor:
        """Return the class logits (N, n_classes) of the auxiliary classifier head."""
        raise MissingCapability(f"this {type(self).__name__} has no classifier head.")

    @property
    def classifies(self) -> bool:
        """Whether this critic has an auxiliary classifier head."""
        return self.n_classes > 0 and type(self).classify is not Critic.classify

    def score_and_classify(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (N,) without any class term, and class logits (N, n_classes); in one pass if the family can."""
        return self(x), self.classify(x)

    @property
    def takes_classes(self) -> bool:
        """Whether :meth:`with_classes` can add a class head."""
        return type(self).with_classes is not Critic.with_classes

    def with_classes(self, n: int, seed: int = 0, head: ClassHead = "auto") -> "Critic":
        """Return the same critic with a new class head; scores without a class stay the same.

        Args:
            n: classes.
            seed: seed of the head's weights.
            head: ``auxiliary`` classifier or ``projection``; ``auto`` takes what the family prefers.

        Raises:
            MissingCapability: if the family has no such head.
        """
        raise MissingCapability(f"a {type(self).__name__} cannot be given classes; adapt it without labels.")

    def describe(self) -> Description:
        """Return what is needed to build this network again, apart from its weights."""
        raise MissingCapability(f"a {type(self).__name__} was handed over as a Python module and cannot be written to a file.")

    @property
    def stages(self) -> list[nn.Module]:
        """Sub-modules in the order of computation, from images to scores."""
        return leading_children(self)

    @property
    def batch_dependent(self) -> bool:
        """Whether an image's score depends on the other images of its batch, in the mode that the critic is in."""
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in self.modules())


class Autoencoder(nn.Module, abc.ABC):
    """Encodes images to codes and decodes them.

    Attributes:
        size, channels: height and width, and channels, of the images.
        code_shape: shape of one code.
        code_range: ``none``, ``tanh`` (codes in [-1, 1]) or ``relu`` (codes at least 0).
        mean_code: mean code of its training data, of shape ``code_shape``, or None.
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
        """Encode images (N, C, H, W) in [-1, 1] to codes (N, *code_shape)."""

    @abc.abstractmethod
    def decode(self, codes: Tensor, *, noise: Noise = "const", rng: Rng | None = None) -> Tensor:
        """Decode codes (N, *code_shape) to images (N, C, H, W), which are not clamped."""

    def describe(self) -> Description:
        """Return what is needed to build this network again, apart from its weights."""
        raise MissingCapability(f"a {type(self).__name__} was handed over as a Python module and cannot be written to a file.")


def leading_children(module: nn.Module) -> list[nn.Module]:
    """Return the children of a module; a single child that has children is replaced by them."""
    children = list(module.children())
    while len(children) == 1 and list(children[0].children()):
        children = list(children[0].children())
    return children


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules in evaluation mode inside the block, and restore the flag of every sub-module afterwards.

    The flags are set without calling ``eval()``: generators whose authors sample with the statistics of the batch go on using
    these after ``eval()``, but use stored ones in here, where no image may depend on the others of its batch.
    """
    flags = [(m, m.training) for module in modules for m in module.modules()]
    for m, _ in flags:
        m.training = False
    try:
        yield
    finally:
        for m, training in flags:
            m.training = training
