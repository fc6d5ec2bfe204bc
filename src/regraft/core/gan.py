"""The contract: what every part of regraft may expect of latents, generators, critics, autoencoders and GANs."""

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
from regraft.core.networks import Autoencoder, Critic, Generator, Noise, evaluating
from regraft.core.randomness import row_generators, uniform
from regraft.core.wrap import as_critic, as_generator


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


_WITHOUT = {
    "critic": "Give the critic's file in a source card, or a method that trains a new one: --method transfergan.",
    "autoencoder": "Use a source that encodes images (an ALAE file, or one made with pretrain).",
}
"""What to do without a part."""


class GAN:
    """A generator with what belongs to it; every network is read-only for regraft."""

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
    ) -> None:
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
            self.generator,
            self.critic,
            autoencoder=self.autoencoder,
            objective=objective,
            recipe=recipe,
            provenance=self.provenance,
            aspect=self.aspect,
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
        """The classes, (n,), that :meth:`sample` draws; None if the generator has none."""
        if not self.generator.n_classes:
            return None
        draws = uniform((n,), row_generators(seed, "class", range(first, first + n)), torch.empty(0))
        return (draws * self.generator.n_classes).long()

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
        self,
        z: Tensor,
        y: Tensor | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Sequence[torch.Generator] | None = None,
        batch: int = 64,
    ) -> Tensor:
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
