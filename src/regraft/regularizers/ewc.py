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

    images: Annotated[int, Field(ge=1, description="Number of generated images that Fisher information is estimated on.")] = 64


class EWC(Regularizer[EWCConfig]):
    """Weighted squared distance of parameters from the source's."""

    Config = EWCConfig
    summary = "elastic weight consolidation: hold the parameters that matter to the source's critic"
    paper = "Li et al. 2020, Few-shot Image Generation with Elastic Weight Consolidation, arXiv:2012.02780"
    weight = 1.0

    def attach(self, generator: Generator, source: GAN, config: EWCConfig, free: Collection[str] = ()) -> Term:
        """Make the loss; Fisher information is estimated at its first call, on the device of training."""
        critic = source.require("critic", for_="regularizer=ewc")
        shapes = {name: parameter.shape for name, parameter in source.generator.named_parameters()}
        held = {
            name: parameter
            for name, parameter in generator.named_parameters()
            if name not in free and shapes.get(name) == parameter.shape
        }
        if not held:
            raise ConfigError("regularizer=ewc: no parameter of the adapted generator is the source's; leave it out")
        ready: list[tuple[nn.Parameter, Tensor, Tensor]] = []

        def term(rng: torch.Generator, device: torch.device) -> Tensor:
            zero = zero_unless_trained(generator, device)
            if zero is not None:
                return zero
            if not ready:
                information = fisher(source.generator, critic, source.objective, config.images, device)
                mean = torch.cat([values.flatten() for values in information.values()]).mean().clamp_min(1e-30)
                before = dict(source.generator.named_parameters())
                ready.extend(
                    (parameter, before[name].detach().to(device, copy=True), information[name] / mean)
                    for name, parameter in held.items()
                )
            return torch.stack([(f * (p - old).square()).sum() for p, old, f in ready]).sum()

        return term


def fisher(generator: Generator, critic: Critic, objective: Objective, n: int, device: torch.device) -> dict[str, Tensor]:
    """Estimate the diagonal Fisher information of a generator's parameters under its critic.

    Args:
        generator: read-only.
        critic: its critic, read-only.
        objective: names the generator's loss.
        n: number of generated images; their seed is fixed.
        device: where to compute.

    Returns:
        The mean over images of (d loss of one image / d parameter)^2, by parameter name; zero for unused parameters.
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
            gradients = torch.autograd.grad(generator_loss(objective, scores), list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient.square() / n
    return sums


PLUGIN = EWC()
