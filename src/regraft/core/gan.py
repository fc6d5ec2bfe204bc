"""A GAN: a generator with its critic, autoencoder, training settings and provenance."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from regraft.core.config import Objective, Recipe
from regraft.core.device import device_of
from regraft.core.errors import MissingCapability
from regraft.core.latent import Latent
from regraft.core.names import printable
from regraft.core.networks import Autoencoder, Critic, Generator, Noise, evaluating
from regraft.core.randomness import row_generators, uniform
from regraft.core.wrap import as_critic, as_generator


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a GAN came from and what had to be assumed to read it.

    Attributes:
        name: as messages call it.
        format: name of the file format.
        files: file name to SHA-256.
        licence: name or text, or None if none is stated.
        dataset: what it was trained on.
        url: where its files are published.
        assumptions: what the files do not say and reading them assumed, one sentence each.
        lineage: records of the sources that it was adapted from.
        classes: names of its classes, if known.
    """

    name: str = "module"
    format: str = "python"
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    licence: str | None = None
    dataset: str | None = None
    url: str | None = None
    assumptions: tuple[str, ...] = ()
    lineage: tuple[dict[str, Any], ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Bring names to the form in which they can be shown, stored and compared."""
        object.__setattr__(self, "name", printable(self.name))
        object.__setattr__(self, "files", {printable(name): digest for name, digest in self.files.items()})
        object.__setattr__(self, "classes", tuple(map(printable, self.classes)))

    @property
    def noncommercial(self) -> bool:
        """Whether the licence says that commercial use is forbidden."""
        return forbids_commerce(self.licence)


def forbids_commerce(licence: str | None) -> bool:
    """Whether a licence's name or text forbids commercial use: "non-commercial", "CC BY-NC", ..."""
    words = (licence or "").lower().replace(" ", "-").replace("_", "-")
    return any(mark in words for mark in ("non-commercial", "noncommercial", "by-nc", "nvidia-source-code"))


_WITHOUT = {
    "critic": "Give the critic's file in a source card, or a method that trains a new one: --method transfergan.",
    "autoencoder": "Use a source that encodes images (an ALAE file, or one made with pretrain).",
}
"""What to do without a part."""


def parse_class_shares(value: object, n_classes: int) -> tuple[float, ...] | None:
    """Read from plain data how often each class is drawn; None if it is not there.

    Raises:
        ValueError: if it is no distribution over ``n_classes`` classes.
    """
    if value is None:
        return None
    shares = [float(s) for s in value if type(s) in (int, float) and 0 <= s <= 1] if isinstance(value, list | tuple) else []
    if len(shares) != n_classes or abs(sum(shares) - 1) > 1e-3:
        raise ValueError(f"class_shares must be {n_classes} numbers from 0 to 1 whose sum is 1")
    return tuple(shares)


class GAN:
    """A generator with what belongs to it; regraft never changes its networks."""

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module | None = None,
        latent: Latent | None = None,
        *,
        autoencoder: Autoencoder | None = None,
        objective: Objective | None = None,
        recipe: Recipe | None = None,
        provenance: Provenance | None = None,
        aspect: float | None = None,
        class_shares: Sequence[float] | None = None,
    ) -> None:
        """Bring networks together; any torch module serves as generator or critic.

        Args:
            generator: a :class:`Generator`, or any module that maps latents (N, dim) or (N, dim, 1, 1) to images.
            critic: a :class:`Critic`, or any module that maps each image to one number.  A final sigmoid is left out.
            latent: distribution of the input; needed for a plain module as generator.
            autoencoder: encodes and decodes images, for Mind2Mind.
            objective: losses that its family is trained with; non-saturating with R1 by default.
            recipe: the family's training settings.
            provenance: origin, digests and licence.
            aspect: width over height that saved samples are brought back to; None to save them as they are.
            class_shares: how often each class is drawn where none is asked for, (n_classes,); None if all are equally likely.

        Raises:
            SourceError: if a plain module does not map latents to images or images to scores.
        """
        self.generator: Generator = as_generator(generator, latent)
        self.critic: Critic | None = as_critic(critic, self.generator) if critic is not None else None
        self.autoencoder = autoencoder
        self.objective = objective or Objective()
        self.recipe = recipe or Recipe()
        self.provenance = provenance or Provenance()
        self.aspect = aspect
        self.class_shares = None if class_shares is None else tuple(class_shares)

    def trained_with(self, objective: Objective, recipe: Recipe) -> "GAN":
        """Return a GAN of the same networks with another objective and recipe."""
        return GAN(
            self.generator,
            self.critic,
            autoencoder=self.autoencoder,
            objective=objective,
            recipe=recipe,
            provenance=self.provenance,
            aspect=self.aspect,
            class_shares=self.class_shares,
        )

    @overload
    def require(self, part: Literal["critic"], for_: str) -> Critic: ...

    @overload
    def require(self, part: Literal["autoencoder"], for_: str) -> Autoencoder: ...

    def require(self, part: Literal["critic", "autoencoder"], for_: str) -> Critic | Autoencoder:
        """Return a part that not every GAN has.

        Args:
            part: its name.
            for_: what needs it, for the error.

        Raises:
            MissingCapability: if this GAN lacks it; the message says what to do instead.
        """
        network = self.critic if part == "critic" else self.autoencoder
        if network is None:
            raise MissingCapability(f"{for_} needs {part}, and {self.provenance.name} has none. {_WITHOUT[part]}")
        return network

    @torch.no_grad()
    def classes_at(self, n: int, seed: int = 0, first: int = 0) -> Tensor | None:
        """Return the classes, (n,), that :meth:`sample` draws for these images; None if the generator has none."""
        if not self.generator.n_classes:
            return None
        draws = uniform((n,), row_generators(seed, "class", range(first, first + n)), torch.empty(0))
        if self.class_shares is None:
            return (draws * self.generator.n_classes).long()
        limits = torch.tensor(self.class_shares, dtype=torch.float64).cumsum(0)
        return torch.searchsorted(limits, draws.double() * limits[-1], right=True).clamp_max(len(limits) - 1)

    def sample(
        self,
        n: int,
        seed: int = 0,
        *,
        first: int = 0,
        y: Tensor | None = None,
        psi: float = 1.0,
        noise: Noise = "const",
        batch: int = 64,
    ) -> Tensor:
        """Make images ``first`` to ``first + n - 1`` of ``seed``.

        Args:
            n: how many.
            seed: decides, with the index of an image, its latent, class and noise.
            first: index of the first image.
            y: class indices (n,); if None, those that :meth:`classes_at` draws.
            psi: truncation, see :meth:`Generator.forward`.
            noise: see :meth:`Generator.forward`.
            batch: images per forward pass; does not change the images.

        Returns:
            (n, C, H, W) in [-1, 1], on the CPU.
        """
        y = self.classes_at(n, seed, first) if y is None else y
        indices = range(first, first + n)
        rng = row_generators(seed, "noise", indices) if noise == "random" else None
        return self.at(self.generator.latent.at(seed, indices), y, psi=psi, noise=noise, rng=rng, batch=batch)

    @torch.no_grad()
    def at(
        self,
        z: Tensor,
        y: Tensor | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Sequence[torch.Generator] | None = None,
        batch: int = 64,
    ) -> Tensor:
        """Make the images of given latents.

        Args:
            z: latents (n, dim).
            y: class indices, (n,), or (1,) for all.
            psi, noise, rng: see :meth:`Generator.forward`; ``rng`` has one generator per image.
            batch: images per forward pass; does not change the images.

        Returns:
            (n, C, H, W) in [-1, 1], on the CPU.
        """
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


def tensor_digest(*networks: nn.Module | dict[str, Tensor]) -> str:
    """Return the SHA-256 over sorted names, dtypes, shapes and bytes of networks, which identifies a source."""
    digest = hashlib.sha256()
    for network in networks:
        tensors = network.state_dict() if isinstance(network, nn.Module) else network
        for name in sorted(tensors):
            value = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
            digest.update(value.view(torch.uint8).numpy().tobytes() if value.dim() else value.numpy().tobytes())
    return digest.hexdigest()
