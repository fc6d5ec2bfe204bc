"""Wrap plain torch modules as generators and critics of the contract."""

import copy

import torch
from torch import Tensor, nn

from regraft.core.device import device_of
from regraft.core.errors import SourceError
from regraft.core.latent import Latent
from regraft.core.networks import ClassCode, Critic, Generator, Noise, evaluating, leading_children
from regraft.core.randomness import Rng


class ModuleGenerator(Generator):
    """A plain module that maps latents (N, dim) or (N, dim, 1, 1) to images."""

    def __init__(self, module: nn.Module, latent: Latent) -> None:
        super().__init__()
        self.module = module
        self.latent = latent
        self.spatial, image = _probe_generator(module, latent)
        self.channels, self.size = image.shape[1], (image.shape[2], image.shape[3])

    def forward(
        self,
        z: Tensor,
        y: Tensor | ClassCode | None = None,
        *,
        psi: float = 1.0,
        noise: Noise = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """See :meth:`Generator.forward`; ``psi`` scales the latent."""
        z = z if psi == 1.0 else z * psi
        images: Tensor = self.module(z[:, :, None, None] if self.spatial else z)
        return images

    @property
    def stages(self) -> list[nn.Module]:
        """Children of the module."""
        return leading_children(self.module)


class ModuleCritic(Critic):
    """A plain module that maps each image to one number; a final sigmoid is left out."""

    def __init__(self, module: nn.Module, size: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.module = _without_final_sigmoid(module)
        self.size, self.channels = size, channels
        _probe_critic(self.module, size, channels)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Critic.forward`."""
        scores: Tensor = self.module(x)
        return scores.reshape(len(x))

    @property
    def stages(self) -> list[nn.Module]:
        """Children of the module."""
        return leading_children(self.module)


def as_generator(module: nn.Module, latent: Latent | None) -> Generator:
    """Return a module as a generator of the contract.

    Raises:
        SourceError: if ``latent`` is missing or the module does not make images from it.
    """
    if isinstance(module, Generator):
        return module
    if latent is None:
        raise SourceError(
            "a plain module as generator needs latent=regraft.Latent(dim): the module does not say how many inputs it has"
        )
    return ModuleGenerator(module, latent)


def as_critic(module: nn.Module, generator: Generator) -> Critic:
    """Return a module as a critic of the contract for a generator's images.

    Raises:
        SourceError: if the module does not give one number per image.
    """
    if isinstance(module, Critic):
        return module
    return ModuleCritic(module, generator.size, generator.channels)


@torch.no_grad()
def _probe_generator(module: nn.Module, latent: Latent) -> tuple[bool, Tensor]:
    """Return whether a module takes latents as (N, dim, 1, 1) rather than (N, dim), and two of its images."""
    z = torch.zeros(2, latent.dim, device=device_of(module))
    failures = []
    with evaluating(module):
        for spatial in (False, True):
            try:
                image = module(z[:, :, None, None] if spatial else z)
            except (RuntimeError, ValueError, IndexError) as error:
                failures.append(f"{tuple(z.shape) + (1, 1) * spatial}: {' '.join(str(error).split())[:120]}")
                continue
            if isinstance(image, Tensor) and image.dim() == 4 and len(image) == 2 and image.shape[1] in (1, 3):
                return spatial, image
            failures.append(f"{tuple(z.shape) + (1, 1) * spatial}: gave {getattr(image, 'shape', type(image).__name__)}")
    raise SourceError(
        f"{type(module).__name__} does not make images (N, 1 or 3, H, W) from latents of {latent.dim} numbers: "
        + "; ".join(failures)
    )


@torch.no_grad()
def _probe_critic(module: nn.Module, size: tuple[int, int], channels: int) -> None:
    """Raise SourceError if a module does not give one number per image."""
    x = torch.zeros(2, channels, *size, device=device_of(module))
    with evaluating(module):
        try:
            scores = module(x)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:160]
            raise SourceError(f"{type(module).__name__} does not score images {tuple(x.shape)}: {reason}") from None
    if not isinstance(scores, Tensor) or scores.numel() != 2:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise SourceError(f"{type(module).__name__} must give one number per image; for two images it gave {got}")


def _without_final_sigmoid(module: nn.Module) -> nn.Module:
    """Return the module, or a copy without its last layer if that is a sigmoid: scores must be unbounded."""
    if isinstance(module, nn.Sigmoid):
        return nn.Identity()
    leaves = [(name, m) for name, m in module.named_modules() if not list(m.children())]
    if not leaves or not isinstance(leaves[-1][1], nn.Sigmoid):
        return module
    module = copy.deepcopy(module)
    module.set_submodule(leaves[-1][0], nn.Identity())
    return module
