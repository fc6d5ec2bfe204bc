"""Elastic weight consolidation: parameters that mattered to the source's critic are held more tightly than others.

How much a parameter matters is its Fisher information, the mean squared slope of the source's own generator loss over single
images.  It is divided by its mean over all parameters, because its size differs by many orders of magnitude between families:
the published factor is this one's weight over that mean.

Source: Li et al. 2020, "Few-shot image generation with elastic weight consolidation", equations 1 and 2.
"""

import copy
from collections.abc import Collection
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.core.config import Config, Objective
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.networks import Critic, Generator, evaluating
from regraft.core.randomness import generator_at
from regraft.regularizers.base import Regularizer, Term, zero_unless_trained
from regraft.training.objectives import generator_loss


class EWCConfig(Config):
    """Settings of EWC."""

    images: Annotated[int, Field(ge=1, description="Generated images that Fisher information is estimated on.")] = 64


class EWC(Regularizer):
    """Weighted squared distance of parameters from the source's."""

    Config = EWCConfig
    summary = "elastic weight consolidation: hold the parameters that matter to the source's critic"
    paper = "Li et al. 2020, Few-shot Image Generation with Elastic Weight Consolidation, arXiv:2012.02780"
    weight = 1.0

    def attach(self, generator: Generator, source: GAN, config: EWCConfig, free: Collection[str] = ()) -> Term:
        """Fisher information is estimated when it is first needed, where training runs; ``free`` ones are left alone."""
        critic = source.require("critic", for_="regularizer=ewc")
        held = ((name, p) for name, p in generator.named_parameters() if name not in free)
        pairs = [(p, name) for name, p in held if _alike(source.generator, name, p)]
        if not pairs:
            raise ConfigError("regularizer=ewc: no parameter of the adapted generator is the source's; leave it out")
        ready: list[tuple[nn.Parameter, Tensor, Tensor]] = []

        def term(rng: torch.Generator, device: torch.device) -> Tensor:
            nothing = zero_unless_trained(generator, device)
            if nothing is not None:
                return nothing
            if not ready:
                found = fisher(source.generator, critic, source.objective, config.images, device)
                mean = torch.cat([f.flatten() for f in found.values()]).mean().clamp_min(1e-30)
                before = dict(source.generator.named_parameters())
                ready.extend((p, before[name].detach().to(device, copy=True), found[name] / mean) for p, name in pairs)
            return torch.stack([(f * (p - old).square()).sum() for p, old, f in ready]).sum()

        return term


def _alike(source: Generator, name: str, parameter: nn.Parameter) -> bool:
    before = dict(source.named_parameters()).get(name)
    return before is not None and before.shape == parameter.shape


def fisher(generator: Generator, critic: Critic, objective: Objective, n: int, device: torch.device) -> dict[str, Tensor]:
    """Diagonal Fisher information of a generator's parameters under its critic.

    Args:
        generator: read-only.
        critic: its critic, read-only.
        objective: names the generator's loss.
        n: generated images of a fixed seed.
        device: where to compute.

    Returns:
        By parameter name, the mean over images of the squared slope of one image's loss; zero where there is none.
    """
    generator = copy.deepcopy(generator).to(device).requires_grad_(True)
    critic = copy.deepcopy(critic).to(device).requires_grad_(False)
    parameters = dict(generator.named_parameters())
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    latents = generator.latent.at(0, range(n)).to(device)
    classes = torch.randint(max(1, generator.n_classes), (n,), generator=generator_at(0, "fisher")).to(device)
    with evaluating(generator, critic), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for k in range(n):
            y = classes[k : k + 1] if generator.n_classes else None
            scores = critic(generator(latents[k : k + 1], y), y if critic.n_classes else None)
            slopes = torch.autograd.grad(generator_loss(objective, scores), list(parameters.values()), allow_unused=True)
            for name, slope in zip(parameters, slopes, strict=True):
                if slope is not None:
                    sums[name] += slope.square() / n
    return sums


PLUGIN = EWC()
