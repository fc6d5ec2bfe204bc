"""The contract: what every part of regraft may expect of latents, generators, critics, autoencoders and GANs."""

import abc
import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regraft.config import Objective, Recipe
from regraft.errors import MissingCapability
from regraft.latent import Distribution as Distribution
from regraft.latent import Latent as Latent
from regraft.randomness import Rng, row_generators, uniform

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
        self, z: Tensor, y: Tensor | ClassCode | None = None, *, psi: float = 1.0, noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:  # fmt: skip
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

    def reclassed(self, weights: Tensor) -> "Generator":
        """Make a conditional generator whose class k is, until trained, this one's classes mixed by row k of (new, old)."""
        raise MissingCapability(f"the classes of a {type(self).__name__} cannot be exchanged; adapt it without labels.")

    @property
    def style_path(self) -> list[nn.Module]:
        """What lies between latents and styles; empty where there are no styles."""
        return []

    def recentre(self, z: Tensor | None = None) -> None:
        """Measure the mean style, which truncation pulls towards, again.

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

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
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


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a GAN came from and what had to be assumed to read it."""

    name: str = "module"
    format: str = "python"
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # file name -> sha256
    licence: str | None = None
    dataset: str | None = None
    url: str | None = None
    assumptions: tuple[str, ...] = ()
    lineage: tuple[dict[str, Any], ...] = ()
    classes: tuple[str, ...] = ()  # names, where they are known

    @property
    def noncommercial(self) -> bool:
        """Whether the licence says that it forbids commercial use."""
        return forbids_commerce(self.licence)


def forbids_commerce(licence: str | None) -> bool:
    """Whether a licence's name or text says so: "non-commercial", "CC BY-NC", ..."""
    words = (licence or "").lower().replace(" ", "-").replace("_", "-")
    return any(mark in words for mark in ("non-commercial", "noncommercial", "by-nc", "nvidia-source-code"))


class GAN:
    """A generator with what belongs to it; every network is read-only for regraft."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module | None = None, latent: Latent | None = None, *,
        autoencoder: Autoencoder | None = None, objective: Objective | None = None, recipe: Recipe | None = None,
        provenance: Provenance | None = None, aspect: float | None = None,
    ) -> None:  # fmt: skip
        """Bring networks together; any torch module serves as generator or critic.

        Args:
            generator: a :class:`Generator`, or any module that maps latents (N, dim) or (N, dim, 1, 1) to images.
            critic: a :class:`Critic`, or any module that maps images to one number each.  A final sigmoid is left out.
            latent: needed for plain modules.
            autoencoder: encodes and decodes images, for Mind2Mind.
            objective: how its family is trained; non-saturating with R1 by default.
            recipe: the family's training settings.
            provenance: origin, digests and licence.
            aspect: width over height that saved samples are brought back to, where training fitted another shape.

        Raises:
            SourceError: if a plain module does not map latents to images or images to scores.
        """
        from regraft.wrap import as_critic, as_generator

        self.generator: Generator = as_generator(generator, latent)
        self.critic: Critic | None = as_critic(critic, self.generator) if critic is not None else None
        self.autoencoder = autoencoder
        self.objective = objective or Objective()
        self.recipe = recipe or Recipe()
        self.provenance = provenance or Provenance()
        self.aspect = aspect

    def trained_with(self, objective: Objective, recipe: Recipe) -> "GAN":
        """The same networks, to be trained in another way."""
        return GAN(
            self.generator, self.critic, autoencoder=self.autoencoder, objective=objective, recipe=recipe,
            provenance=self.provenance, aspect=self.aspect,
        )  # fmt: skip

    def require(self, capability: Literal["critic", "autoencoder"], for_: str) -> Any:
        """Return a part, or raise MissingCapability naming who needs it and the way out."""
        part = getattr(self, capability)
        if part is None:
            way_out = {
                "critic": "Give the critic's file in a source card, or a method that trains a new one: --method transfergan.",
                "autoencoder": "Use a source that encodes images (an ALAE file, or one made with pretrain).",
            }[capability]
            raise MissingCapability(f"{for_} needs {capability}, and {self.provenance.name} has none. {way_out}")
        return part

    @torch.no_grad()
    def classes_at(self, n: int, seed: int = 0, first: int = 0) -> Tensor | None:
        """The classes, (n,), that :meth:`sample` draws; None if the generator has none."""
        if not self.generator.n_classes:
            return None
        draws = uniform((n,), row_generators(seed, "class", range(first, first + n)), torch.empty(0))
        return (draws * self.generator.n_classes).long()

    def sample(
        self, n: int, seed: int = 0, *, first: int = 0, y: Tensor | None = None, psi: float = 1.0, noise: Noise = "const",
        batch: int = 64,
    ) -> Tensor:  # fmt: skip
        """Make images ``first`` to ``first + n - 1`` of ``seed``.

        Args:
            n: how many.
            seed: with the image's index decides latent, class and noise.
            first: index of the first image.
            y: class indices (n,); drawn at random from all classes where None and the generator is conditional.
            psi: truncation, see :meth:`Generator.forward`.
            noise: see :meth:`Generator.forward`.
            batch: images per forward pass; changes speed only.

        Returns:
            (n, C, H, W) in [-1, 1], on the CPU.
        """
        y = self.classes_at(n, seed, first) if y is None else y
        indices = range(first, first + n)
        rng = row_generators(seed, "noise", indices) if noise == "random" else None
        return self.at(self.generator.latent.at(seed, indices), y, psi=psi, noise=noise, rng=rng, batch=batch)

    @torch.no_grad()
    def at(
        self, z: Tensor, y: Tensor | None = None, *, psi: float = 1.0, noise: Noise = "const",
        rng: Sequence[torch.Generator] | None = None, batch: int = 64,
    ) -> Tensor:  # fmt: skip
        """Make the images of given latents; arguments and result as :meth:`sample`, one class may serve all."""
        device = device_of(self.generator)
        y = y.expand(len(z)) if y is not None and len(y) == 1 else y
        images = [torch.empty(0, self.generator.channels, *self.generator.size)]
        with evaluating(self.generator):
            for start in range(0, len(z), batch):
                rows = slice(start, start + batch)
                labels = None if y is None else y[rows].to(device)
                part = self.generator(z[rows].to(device), labels, psi=psi, noise=noise, rng=None if rng is None else rng[rows])
                images.append(part.clamp(-1, 1).cpu())
        return torch.cat(images)


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


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU if it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def tensor_digest(*networks: nn.Module | dict[str, Tensor]) -> str:
    """SHA-256 over sorted names, dtypes, shapes and bytes of networks: the identity of a source."""
    digest = hashlib.sha256()
    for network in networks:
        tensors = network.state_dict() if isinstance(network, nn.Module) else network
        for name in sorted(tensors):
            value = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
            digest.update(value.view(torch.uint8).numpy().tobytes() if value.dim() else value.numpy().tobytes())
    return digest.hexdigest()
