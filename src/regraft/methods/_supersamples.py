"""The game of several mined generators against one critic: in a row of images, one per source, the best-scored one wins.

Source: Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images", section 3.2.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from regraft.composites.mined import prior_gap
from regraft.composites.mixed import MixedGenerator
from regraft.core import norms
from regraft.core.config import Config, Objective, Recipe
from regraft.core.networks import Batch, Critic
from regraft.core.randomness import generator_at, row_generators
from regraft.methods._adversarial import Game, parameters_of
from regraft.methods._target_shares import TargetShares
from regraft.training.augment import Augmentation
from regraft.training.updates import Logs, Optimiser, Update

HANDICAP_RATE = 0.1
"""How fast handicaps move, in standard deviations of scores per step and unit of missing wins."""


class SelectorConfig(Config):
    """How the probabilities of several sources are learned."""

    rule: Annotated[
        Literal["matched", "published"],
        Field(
            description="published: the critic's best image of a row wins, and probabilities follow the wins; matched: scores "
            "carry a handicap per source, so that wins and probabilities follow how many target images look like each source."
        ),
    ] = "matched"
    rate: Annotated[float, Field(gt=0, le=1, description="How far one step moves probabilities towards the wins in it.")] = 0.02


@dataclasses.dataclass(frozen=True)
class Rows:
    """A batch of rows with one image of each of N sources, and who won them.

    Attributes:
        winner: number of the source that won each row, (B,).
        scores: the critic's scores of each source's images, without handicaps, (N, B).
        images: all images, without a graph, (N, B, C, H, W).
        fake: the winners' images, with a graph if gradients are enabled, (B, C, H, W).
    """

    winner: Tensor
    scores: Tensor
    images: Tensor
    fake: Tensor


class Selector(nn.Module):
    """Learns how often each source is chosen; the probabilities themselves lie in the generator.

    Under the rule ``published`` a source whose images are worse loses rows that it should win, however many target images are
    of its kind, because the critic tells its images from real ones.  Under ``matched`` each source's scores carry a handicap
    that brings its wins to the share of target images that look like it, see :class:`TargetShares`.

    Attributes:
        handicap: added to each source's scores, (N,).
        looks: shares of target images that look like each source; the name is part of saved tensors' names.
    """

    handicap: Tensor

    def __init__(self, generator: MixedGenerator, config: SelectorConfig) -> None:
        super().__init__()
        self.config = config
        self._generator = [generator]  # inside a list it is no sub-module
        self.register_buffer("handicap", torch.zeros(len(generator.parts)))
        self.looks = TargetShares(len(generator.parts), config.rate)
        self._rows: list[tuple[Tensor, Tensor]] = []

    @property
    def p(self) -> Tensor:
        """Probabilities of the sources, (N,), which lie in the generator."""
        return self._generator[0].p

    def winners(self, scores: Tensor, rng: torch.Generator) -> Tensor:
        """Find the source that wins each row.

        Args:
            scores: the critic's, (N, B).
            rng: breaks ties by lot.

        Returns:
            The number of the source with the best score, handicap included, (B,).
        """
        handicapped = scores + self.handicap.to(scores)[:, None]
        lots = torch.rand(handicapped.shape, generator=rng, device=rng.device).to(handicapped)
        return torch.where(handicapped == handicapped.max(0).values, lots, -1.0).argmax(0)

    def note(self, rows: Rows) -> None:
        """Remember who won until the next :meth:`after_step`."""
        self._rows.append((rows.winner, rows.scores))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move probabilities, handicaps and counts by what was noted."""
        self.looks.after_step()
        if not self._rows:
            return
        winners = torch.cat([winner for winner, _ in self._rows])
        wins = torch.bincount(winners, minlength=len(self.p)) / len(winners)
        self.p.lerp_(wins.to(self.p), self.config.rate)
        if self.config.rule == "matched" and self.looks.steps > 0:
            scale = torch.cat([scores for _, scores in self._rows], dim=1).std(1, correction=0).mean()
            self.handicap += HANDICAP_RATE * scale * (self.looks.shares - wins)
            self.handicap -= self.handicap.mean()
        self._rows = []


class Supersamples(Game):
    """A :class:`Game` whose generated images are the winners of rows with one image of each source.

    Style mixing and path lengths are left out: they belong to one family, and the row does not.
    """

    def __init__(
        self,
        generator: MixedGenerator,
        critic: Critic,
        selector: Selector,
        objective: Objective,
        recipes: Sequence[Recipe],
        augment: Augmentation,
        prior_weight: float,
    ) -> None:
        """Set the game up.

        Args:
            generator: the mixture.
            critic: scores the mixture's images.
            selector: chooses winners.
            objective: rules of the game.
            recipes: one of each source, in order.
            augment: applied to all images that the critic sees.
            prior_weight: factor of each winner's gap between mined latents and its source's own; 0 leaves it out.
        """
        super().__init__(generator, critic, objective, recipes[generator.lead], augment)
        self.mixture, self.selector, self.recipes, self.prior_weight = generator, selector, recipes, prior_weight

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules with state, by name."""
        return super().modules | {"selector": self.selector}

    def fake(self, n: int, rng: torch.Generator, device: torch.device) -> tuple[Tensor, None]:
        """Generate the winners of ``n`` rows, (n, C, H, W); they have no classes."""
        return self.rows(n, rng, device).fake, None

    def rows(self, n: int, rng: torch.Generator, device: torch.device) -> Rows:
        """Generate ``n`` rows; only the winners' generators are in the graph.

        All images are scored without a graph, and the winners made again with one if gradients are enabled.
        """
        seed = int(torch.randint(1 << 62, (), generator=rng, device=rng.device).item())
        inputs = [part.latent.sample(n, rng, device) for part in self.mixture.mined]
        with torch.no_grad():
            images = [self._images(number, u, seed, range(n)) for number, u in enumerate(inputs)]
            scores = torch.stack([self.critic(x) for x in images])
            winner = self.selector.winners(scores, rng)
            stacked = torch.stack(images)
        if not torch.is_grad_enabled():
            return Rows(winner, scores, stacked, stacked[winner, torch.arange(n, device=device)])
        fake = torch.zeros_like(images[0])
        for number, u in enumerate(inputs):
            rows = (winner == number).nonzero()[:, 0]
            if len(rows) and norms.uses_batch_statistics(self.mixture.mined[number]):
                fake = fake.index_copy(0, rows, self._images(number, u, seed, range(n))[rows].to(fake.dtype))
            elif len(rows):
                fake = fake.index_copy(0, rows, self._images(number, u[rows], seed, rows.tolist()).to(fake.dtype))
        return Rows(winner, scores, stacked, fake)

    def _images(self, number: int, u: Tensor, seed: int, rows: Sequence[int]) -> Tensor:
        noise = self.recipes[number].noise
        rng = row_generators(seed, f"noise {number}", rows) if noise == "random" else None
        return self.mixture.part_images(number, u, noise=noise, rng=rng)

    def _prior_gap(self, winner: Tensor, rng: torch.Generator, device: torch.device) -> Tensor:
        miners = [self.mixture.mined[number].miner for number in sorted(set(winner.tolist()))]
        return torch.stack([prior_gap(miner, self.prior_weight, rng, device) for miner in miners]).sum()

    def critic_update(self, optimiser: Optimiser) -> Update:
        """See :meth:`Game.critic_update`; also counts which sources target images look like."""
        update = super().critic_update(optimiser)

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            with torch.no_grad():
                rows = self.rows(len(batch), rng, batch.data.device)
            value, logs = self.critic_terms(batch, rows.fake, None, rng)
            self.selector.note(rows)
            if self.selector.config.rule == "matched":
                self.selector.looks.note(self._several(rows.images, rng), batch.data, self.critic)
            return value, logs

        return dataclasses.replace(update, loss=loss, after_step=self._then(update.after_step))

    def _several(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return at least two images of each source, (N, B, C, H, W), because only pairs show how alike they are."""
        if images.shape[1] > 1:
            return images
        with torch.no_grad():
            return torch.cat([images, self.rows(1, rng, images.device).images], dim=1)

    def generator_update(self, name: str, optimisers: Sequence[Optimiser]) -> Update:
        """See :meth:`Game.generator_update`; a source that won nothing keeps all its state."""
        update = super().generator_update(name, optimisers)

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
            rows = self.rows(len(batch), rng, batch.data.device)
            value, logs = self.generator_terms(name, batch, rows.fake, None, rng)
            if self.prior_weight:
                gap = self._prior_gap(rows.winner, rng, batch.data.device)
                logs["prior_gap"] = gap.detach()
                value = value + gap
            self.selector.note(rows)
            return value, logs | {f"p{number}": float(p) for number, p in enumerate(self.selector.p)}

        def keep() -> None:
            stepped = [p for p in parameters_of(optimisers) if p.grad is not None]
            norms.update_running_state(self.generator, stepped)

        return dataclasses.replace(update, loss=loss, after_step=self._then(keep))

    def _then(self, first: Callable[[], None] | None) -> Callable[[], None]:
        def after_step() -> None:
            if first is not None:
                first()
            self.selector.after_step()

        return after_step


@torch.no_grad()
def win_shares(game: Supersamples, n: int = 10_000, seed: int = 0, batch: int = 50) -> Tensor:
    """Measure how often each source wins among ``n`` rows, (N,), with all networks in their present modes.

    The selector's probabilities should equal these; one binomial standard error is sqrt(p (1 - p) / n).
    """
    device = game.mixture.p.device
    wins = torch.zeros(len(game.mixture.parts))
    for number, start in enumerate(range(0, n, batch)):
        rng = generator_at(seed, "win shares", number, device=device)
        rows = game.rows(min(batch, n - start), rng, device)
        wins += torch.bincount(rows.winner, minlength=len(wins)).cpu()
    return wins / n
