"""The game of several mined generators against one critic: of each row of images, one per source, the critic's best counts.

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
from regraft.methods._looks import Looks
from regraft.training.augment import Augmentation
from regraft.training.updates import Optimiser, Update

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
    rate: Annotated[float, Field(gt=0, le=1, description="How far one step moves probabilities towards its wins.")] = 0.02


@dataclasses.dataclass(frozen=True)
class Row:
    """What a batch of supersamples came to.

    Attributes:
        winner: which source won each row, (B,).
        scores: of each source's images, without handicaps, (N, B).
        images: (N, B, C, H, W).
    """

    winner: Tensor
    scores: Tensor
    images: Tensor


class Selector(nn.Module):
    """Learns how often each source is chosen; the probabilities themselves lie in the generator.

    Under the rule ``published`` a source whose images are worse loses rows that it should win, however many target images are
    of its kind, because the critic tells its images from real ones.  Under ``matched`` each source's scores carry a handicap
    that brings its wins to the share of target images that look like it, see :class:`Looks`.

    Attributes:
        handicap: added to each source's scores, (N,).
        looks: whom target images look like.
    """

    handicap: Tensor

    def __init__(self, generator: MixedGenerator, config: SelectorConfig) -> None:
        super().__init__()
        self.config = config
        self._generator = [generator]  # inside a list it is no sub-module
        self.register_buffer("handicap", torch.zeros(len(generator.parts)))
        self.looks = Looks(len(generator.parts), config.rate)
        self._rows: list[tuple[Tensor, Tensor]] = []

    @property
    def p(self) -> Tensor:
        """The probabilities, (N,)."""
        return self._generator[0].p

    def winners(self, scores: Tensor, rng: torch.Generator) -> Tensor:
        """Which source wins each row of scores (N, B), (B,): the best score, handicap included; ties by lot."""
        handicapped = scores + self.handicap.to(scores)[:, None]
        lots = torch.rand(handicapped.shape, generator=rng, device=rng.device).to(handicapped)
        return torch.where(handicapped == handicapped.max(0).values, lots, -1.0).argmax(0)

    def note(self, row: Row) -> None:
        """Remember wins until the next :meth:`after_step`."""
        self._rows.append((row.winner, row.scores))

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
            objective: of the game.
            recipes: of the sources, in order.
            augment: what the critic's view is augmented with.
            prior_weight: of each winner's gap between mined latents and its source's own.
        """
        super().__init__(generator, critic, objective, recipes[generator.lead], augment)
        self.mixture, self.selector, self.recipes = generator, selector, recipes
        self.row: Row | None = None
        if prior_weight:
            self.extras["prior_gap"] = lambda rng, device: self._prior_gap(prior_weight, rng, device)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules with state, by name."""
        return super().modules | {"selector": self.selector}

    def fake(self, n: int, rng: torch.Generator, device: torch.device) -> tuple[Tensor, None]:
        """Winners of ``n`` rows; only their generators are in the graph.

        All images are scored without a graph, and the winners made again with one if gradients are wanted.
        """
        seed = int(torch.randint(1 << 62, (), generator=rng, device=rng.device).item())
        inputs = [part.latent.sample(n, rng, device) for part in self.mixture.mined]
        with torch.no_grad():
            images = [self._images(number, u, seed, range(n)) for number, u in enumerate(inputs)]
            scores = torch.stack([self.critic(x) for x in images])
            winner = self.selector.winners(scores, rng)
            self.row = Row(winner, scores, torch.stack(images))
        if not torch.is_grad_enabled():
            return self.row.images[winner, torch.arange(n, device=device)], None
        made = torch.zeros_like(images[0])
        for number, u in enumerate(inputs):
            rows = (winner == number).nonzero()[:, 0]
            if len(rows) and norms.uses_batch_statistics(self.mixture.mined[number]):
                made = made.index_copy(0, rows, self._images(number, u, seed, range(n))[rows].to(made.dtype))
            elif len(rows):
                made = made.index_copy(0, rows, self._images(number, u[rows], seed, rows.tolist()).to(made.dtype))
        return made, None

    def _images(self, number: int, u: Tensor, seed: int, rows: Sequence[int]) -> Tensor:
        noise = self.recipes[number].noise
        rng = row_generators(seed, f"noise {number}", rows) if noise == "random" else None
        return self.mixture.part_images(number, u, noise=noise, rng=rng)

    def _prior_gap(self, weight: float, rng: torch.Generator, device: torch.device) -> Tensor:
        assert self.row is not None  # the generator's loss has made fakes before
        winners = sorted(set(self.row.winner.tolist()))
        return torch.stack([prior_gap(self.mixture.mined[k].miner, weight, rng, device) for k in winners]).sum()

    def critic_update(self, optimiser: Optimiser) -> Update:
        """See :meth:`Game.critic_update`; also counts whom target images look like."""
        update = super().critic_update(optimiser)

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
            value, logs = update.loss(batch, rng)
            assert self.row is not None
            self.selector.note(self.row)
            if self.selector.config.rule == "matched":
                self.selector.looks.note(self._several(self.row.images, rng), batch.data, self.critic)
            return value, logs

        return dataclasses.replace(update, loss=loss, after_step=self._then(update.after_step))

    def _several(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """At least two images of each source, (N, B, C, H, W): how alike images of one source are shows in pairs only."""
        if images.shape[1] > 1:
            return images
        with torch.no_grad():
            self.fake(1, rng, images.device)
        assert self.row is not None  # just made
        return torch.cat([images, self.row.images], dim=1)

    def generator_update(self, name: str, optimisers: Sequence[Optimiser]) -> Update:
        """See :meth:`Game.generator_update`; what won nothing keeps all its state."""
        update = super().generator_update(name, optimisers)

        def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
            value, logs = update.loss(batch, rng)
            assert self.row is not None
            self.selector.note(self.row)
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
    """How often each source wins among ``n`` rows with all networks as they are, (N,): what the probabilities should be.

    A difference is off by chance by sqrt(p (1 - p) / n), one binomial standard error.
    """
    device = game.mixture.p.device
    wins = torch.zeros(len(game.mixture.parts))
    for number, start in enumerate(range(0, n, batch)):
        rng = generator_at(seed, "win shares", number, device=device)
        game.fake(min(batch, n - start), rng, device)
        assert game.row is not None
        wins += torch.bincount(game.row.winner, minlength=len(wins)).cpu()
    return wins / n
