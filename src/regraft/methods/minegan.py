"""MineGAN: a miner network learns which part of the source's latent space to sample; then miner, generator and critic are
fine-tuned together.

In mining the generator is frozen: with u from the miner's own prior, the critic learns E[D(G(M(u)))] against E[D(x)] and only
M follows it.  Mining alone (``finetuning_steps=0``) is the paper's "MineGAN (w/o FT)": a small adapter that cannot leave the
source's images.  The classes of a conditional source are mined from the same u; no labels are used.

With several sources each has a miner, and one critic judges all.  In a row with one image of each source, the image with the
critic's best score wins: critic, penalty and generator see it alone, and only its generator learns.  Probabilities follow the
wins and decide which source makes an image.

Readings of what the paper leaves open: probabilities are running averages of the wins (its rule is not known); by default the
wins are brought in line with the target by handicaps, because bare wins drift to the better source and to the middle (a share
of 0.1 gave 0.24, with handicaps 0.15 to 0.18); latents of a row are independent; ties are broken by lot; there is one Adam
state per source, which rests while the source wins nothing; with several sources, styles are not mixed.  Mined classes are
drawn towards the share of targets that look like each, because the critic alone loses rare ones.

Source: Wang et al. 2020, "MineGAN: effective knowledge transfer from GANs to target domains with few images", equations 1 to 3
and section 3.2.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from regraft.composites.mined import MinedGenerator, MinerConfig, mined_class_shares, prior_gap, with_miners
from regraft.composites.mixed import RESIZE, MixedGenerator
from regraft.core import norms
from regraft.core.config import Recipe, unknown_name
from regraft.core.device import device_of
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.gan import GAN
from regraft.core.networks import Batch, Critic, Generator
from regraft.core.randomness import generator_at
from regraft.methods._adversarial import Game, copy_generator, unfrozen
from regraft.methods._class_guide import class_guide
from regraft.methods._critic_setup import WarmUpConfig, prepare_critic
from regraft.methods._finetuning import FinetuningConfig, add_regularizer
from regraft.methods._sparse import FilterMasks
from regraft.methods._supersamples import Selector, SelectorConfig, Supersamples, win_shares
from regraft.methods.base import AdaptingMethod
from regraft.training.objectives import generator_loss
from regraft.training.updates import Adaptation, Data, Logs, Optimiser, Phase, Update, class_shares

FRESH = "fresh"
IMPORTANCE_BATCHES, IMPORTANCE_BATCH = 64, 4
"""Small ones fit in memory wherever training does, and say more about single images."""


class MineGANConfig(WarmUpConfig, FinetuningConfig):
    """Settings of MineGAN."""

    mining_steps: Annotated[
        int | None, Field(ge=0, description="Steps with the generator frozen; default: a fifth of steps.")
    ] = None
    finetuning_steps: Annotated[
        int | None, Field(ge=0, description="Steps after mining; default: the rest of steps; 0 for mining alone.")
    ] = None
    freeze: Annotated[
        int, Field(ge=0, description="Number of critic stages kept fixed, counted from the image; 0 as published.")
    ] = 0
    miner: Annotated[MinerConfig, Field(description="Settings of the miner networks.")] = MinerConfig()
    critic: Annotated[
        int | str | None,
        Field(
            description="Source whose critic judges, and whose image size and training are taken: its number (from 0) or name; "
            "fresh: a new critic like the first source's; default: a source drawn by the seed among those with a critic."
        ),
    ] = None
    selector: Annotated[SelectorConfig, Field(description="Settings of the choice among several sources.")] = SelectorConfig()
    sparse: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="Share of each layer's filters, the most important ones, that fine-tuning moves; default: all.",
        ),
    ] = None
    supersamples: Annotated[
        int | None,
        Field(
            ge=0,
            description="Rows of images, one per source, that check the probabilities at the end; default: 10,000 up to 64x64 "
            "pixels, 1,000 above; 0: no check.",
        ),
    ] = None

    @model_validator(mode="after")
    def _split(self) -> Self:
        mining, finetuning = self.mining_steps, self.finetuning_steps
        both = mining is not None and finetuning is not None
        if both and "steps" in self.model_fields_set and self.steps != (mining or 0) + (finetuning or 0):
            raise ValueError(f"steps={self.steps} is not mining_steps={mining} + finetuning_steps={finetuning}")
        if mining is None:
            mining = self.steps // 5 if finetuning is None else self.steps - finetuning
        if finetuning is None:
            finetuning = self.steps - mining
        if min(mining, finetuning) < 0:
            raise ValueError(f"steps={self.steps} leaves nothing for the other phase")
        object.__setattr__(self, "mining_steps", mining)
        object.__setattr__(self, "finetuning_steps", finetuning)
        object.__setattr__(self, "steps", mining + finetuning)
        return self

    @property
    def classes_lost(self) -> str | None:
        """See :attr:`MethodConfig.classes_lost`."""
        return None if self.miner.classes == "keep" else "does not learn classes; miner.classes=keep has the source's"


class MineGAN(AdaptingMethod[MineGANConfig]):
    """Mine, then fine-tune."""

    Config = MineGANConfig
    summary = "learn where to sample one or several sources (miners), then fine-tune; mining alone with finetuning_steps=0"
    paper = "Wang et al. 2020, MineGAN, arXiv:1912.05270"
    sources = (1, 64)
    mixtures = False

    def complete_config(self, config: MineGANConfig, sources: Sequence[GAN], n_classes: int, seed: int) -> MineGANConfig:
        """Name the critic by its source's number, chosen at random if the user left it out."""
        if config.critic == FRESH or (config.critic is None and len(sources) == 1):
            return config
        with_critic = [number for number, source in enumerate(sources) if source.critic is not None]
        if config.critic is None and not with_critic:
            return config.model_copy(update={"critic": FRESH})
        if config.critic is None:
            drawn = torch.randint(len(with_critic), (), generator=generator_at(seed, "critic"))
            return config.model_copy(update={"critic": with_critic[int(drawn)]})
        number = _number(sources, config.critic)
        if sources[number].critic is None:
            others = f"one of {', '.join(map(str, with_critic))}, or " if with_critic else ""
            raise MissingCapability(f"critic={config.critic}: that source has no critic; choose {others}critic={FRESH}")
        return config.model_copy(update={"critic": number})

    def lead(self, sources: Sequence[GAN], config: MineGANConfig) -> GAN:
        """See :meth:`Method.lead`; here it is the source whose critic judges."""
        return sources[_lead(sources, config)]

    def attach(self, sources: Sequence[GAN], images: Data, config: MineGANConfig, rng: torch.Generator) -> Adaptation:
        """Put a miner before a copy of each generator; mining and fine-tuning share the critic."""
        lead = self.lead(sources, config)
        recipes = [source.recipe for source in sources]
        generator = self.rebuild(sources, config)
        parts = generator.mined if isinstance(generator, MixedGenerator) else [generator]
        for part in parts:
            part.initialise(rng)
        generator.requires_grad_(True)
        # Batch statistics would take out again the shift of the latent that mining puts in; once mined they may follow it.
        norms.set_training(generator, "running")
        setup = prepare_critic(lead, lead.recipe, False if config.critic == FRESH else None, config.warm_up, rng)
        critic = setup.critic
        if setup.fresh and config.freeze:
            raise ConfigError(f"freeze={config.freeze}: the critic is a new one, which has nothing to keep")
        game = self._game(generator, critic, lead, recipes, config)
        game.class_shares = class_shares(images, generator)
        guide = class_guide(generator, critic, lead.recipe, config.miner.class_weight)
        if guide is not None:
            game.extras["class_gap"] = guide.gap
        masks, choose = self._sparse(game, config, lead.recipe.batch, rng)
        optimiser = game.optimiser("critic", [(unfrozen(critic, config.freeze), lead.recipe.critic_lr)])
        phases = setup.phases(game, optimiser, self._phases(game, optimiser, parts, recipes, config, choose))
        if not generator.n_classes:
            phases = [dataclasses.replace(phase, updates=[_without_labels(u) for u in phase.updates]) for phase in phases]
        modules = game.modules | ({"masks": masks} if masks is not None else {})
        if guide is not None:
            modules["classes"] = guide.target_shares
            phases = [dataclasses.replace(phase, updates=list(map(guide.watching, phase.updates))) for phase in phases]
        return Adaptation(
            generator,
            critic,
            phases,
            modules,
            ema_decay=lead.recipe.ema_decay,
            batch=lead.recipe.batch,
            notes=(*setup.notes, *_notes(sources, lead, config, generator)),
            findings=functools.partial(_findings, game, config, lead.recipe.batch),
        )

    def _phases(
        self,
        game: Game,
        critic: Optimiser,
        parts: Sequence[MinedGenerator],
        recipes: Sequence[Recipe],
        config: MineGANConfig,
        choose: Callable[[], None] | None,
    ) -> list[Phase]:
        """Return mining and fine-tuning, without a phase of no steps; every source has optimisers of its own."""
        numbers = [""] if len(parts) == 1 else [str(number) for number in range(len(parts))]
        each = list(zip(numbers, parts, recipes, strict=True))
        phases = []
        if config.mining_steps:
            miners = [_optimiser(game, f"miner{n}", p.miner_parameters, r.miner_lr, r) for n, p, r in each]
            phases.append(Phase("mining", game.updates("miner", critic, miners), config.mining_steps))
        if config.finetuning_steps:
            # From here on a miner moves no faster than its generator.
            tuned = [
                _optimiser(game, f"generator{n}", [*p.miner_parameters, *p.source.parameters()], r.generator_lr, r)
                for n, p, r in each
            ]
            updates = game.updates("generator", critic, tuned)
            follow = [p for _, p, r in each if r.generator_norm == "batch" and norms.can_rebase(p)]
            on_enter = functools.partial(_begin_finetuning, follow, choose) if follow or choose else None
            modes = functools.partial(_use_batch_statistics, follow) if follow else None
            phases.append(Phase("finetuning", updates, config.finetuning_steps, on_enter, modes, keep_optimisers=True))
        return phases

    def _game(
        self,
        generator: MinedGenerator | MixedGenerator,
        critic: Critic,
        lead: GAN,
        recipes: Sequence[Recipe],
        config: MineGANConfig,
    ) -> Game:
        kinds = config.augmentation(generator.channels)
        if isinstance(generator, MixedGenerator):
            if config.regularizer is not None:
                raise ConfigError(f"regularizer={config.regularizer}: needs a single source")
            selector = Selector(generator, config.selector)
            return Supersamples(generator, critic, selector, lead.objective, recipes, kinds, config.miner.prior_weight)
        game = Game(generator, critic, lead.objective, recipes[0], kinds)
        moved = (
            norms.rebased_parameters(generator.source)
            if recipes[0].generator_norm == "batch" and norms.can_rebase(generator)
            else ()
        )
        add_regularizer(game, config, lead, generator.source, moved)
        if config.miner.prior_weight:
            game.extras["prior_gap"] = functools.partial(prior_gap, generator.miner, config.miner.prior_weight)
        return game

    def _sparse(
        self, game: Game, config: MineGANConfig, batch: int, rng: torch.Generator
    ) -> tuple[FilterMasks | None, Callable[[], None] | None]:
        """Make masks of the filters that fine-tuning may move, and a function that chooses these filters after mining."""
        if config.sparse is None:
            return None, None
        generator = game.generator
        depth = 2 if isinstance(generator, MixedGenerator) else 0  # parts.0.source.(...), or source.(...)
        of_sources = {name: p for name, p in generator.named_parameters() if name.split(".")[depth] == "source"}
        masks = FilterMasks(generator, of_sources)
        if config.sparse == 1.0:  # nothing to choose
            return masks, None
        seed = int(torch.randint(1 << 62, (), generator=rng))

        def loss(draws: torch.Generator) -> Tensor:
            fake, y = game.fake(min(batch, IMPORTANCE_BATCH), draws, device_of(generator))
            y = y if game.critic.n_classes else None
            return generator_loss(game.objective, game.critic(game.augment(fake, draws), y))

        return masks, functools.partial(masks.choose, config.sparse, loss, IMPORTANCE_BATCHES, seed)

    def rebuild(self, sources: Sequence[GAN], config: MineGANConfig) -> MinedGenerator | MixedGenerator:
        """Put miners with unset weights before copies of the sources' generators."""
        parts = [with_miners(config.miner, copy_generator(s.generator, s.recipe, trainable=False)) for s in sources]
        if len(parts) == 1:
            return parts[0]
        lead = _lead(sources, config)
        judge = sources[lead].critic if config.critic != FRESH else None
        judged: Critic | Generator = sources[lead].generator if judge is None else judge
        return MixedGenerator(parts, judged.size, judged.channels, lead)


def _findings(game: Game, config: MineGANConfig, batch: int, generator: Generator, last: bool) -> dict[str, Any]:
    """Return probabilities and win shares of the sources, and shares of the mined classes, as plain data.

    Win shares are left out if an earlier generator is kept (``last`` is false), because the last critic never judged it.
    """
    parts = generator.mined if isinstance(generator, MixedGenerator) else [generator]
    classes = [mined_class_shares(part) if isinstance(part, MinedGenerator) else None for part in parts]
    findings: dict[str, Any] = {}
    if isinstance(generator, MixedGenerator) and isinstance(game, Supersamples):
        findings["p"] = _rounded(generator.p)
        if config.selector.rule == "matched" and game.selector.looks.steps > 0:
            findings["target_shares"] = _rounded(game.selector.looks.shares)
        n = config.supersamples
        n = n if n is not None else 10_000 if max(generator.size) <= 64 else 1_000
        if n and last:
            findings |= {"win_shares": _rounded(win_shares(game, n, batch=batch)), "supersamples": n}
    if any(shares is not None for shares in classes):
        findings["mined_classes"] = [None if shares is None else _rounded(shares) for shares in classes]
    return findings


def _rounded(shares: Tensor) -> list[float]:
    return [round(float(share), 4) for share in shares]


def _number(sources: Sequence[GAN], critic: int | str) -> int:
    """Return the number of the source that ``critic`` names by number or name."""
    names = [source.provenance.name for source in sources]
    if isinstance(critic, str):
        if names.count(critic) > 1:
            numbers = " and ".join(str(number) for number, name in enumerate(names) if name == critic)
            raise ConfigError(f"critic={critic}: sources {numbers} are called so; say which by its number")
        if critic not in names:
            raise ConfigError(unknown_name("source (for its critic)", critic, [*dict.fromkeys(names), FRESH]))
        return names.index(critic)
    if not 0 <= critic < len(sources):
        raise ConfigError(f"critic={critic}: there are sources 0 to {len(sources) - 1}")
    return critic


def _lead(sources: Sequence[GAN], config: MineGANConfig) -> int:
    """Return the number of the source whose critic judges."""
    if config.critic == FRESH:
        return 0
    if config.critic is None:
        return next((number for number, source in enumerate(sources) if source.critic is not None), 0)
    return _number(sources, config.critic)


def _optimiser(game: Game, name: str, parameters: Sequence[nn.Parameter], lr: float, recipe: Recipe) -> Optimiser:
    """Make Adam with the decay rates of a source's own family."""
    return dataclasses.replace(game.optimiser(name, [(parameters, lr)]), betas=recipe.betas)


def _begin_finetuning(follow: Sequence[MinedGenerator], choose: Callable[[], None] | None) -> None:
    for part in follow:
        norms.rebase(part)
    if choose is not None:
        choose()


def _use_batch_statistics(follow: Sequence[MinedGenerator]) -> None:
    for part in follow:
        norms.set_training(part, "batch")


def _without_labels(update: Update) -> Update:
    """Hide labels from an update: mining needs none, and without them critics leave their class terms out."""

    def loss(batch: Batch, rng: torch.Generator) -> tuple[Tensor, Logs]:
        return update.loss(dataclasses.replace(batch, labels=None), rng)

    return dataclasses.replace(update, loss=loss)


def _notes(sources: Sequence[GAN], lead: GAN, config: MineGANConfig, generator: nn.Module) -> tuple[str, ...]:
    """Say which critic judges several sources, and how their images are brought to its size and colours."""
    if not isinstance(generator, MixedGenerator):
        return ()
    asks_for_guide = (
        "class_weight" in config.miner.model_fields_set and config.miner.class_weight and config.miner.classes != "keep"
    )
    height, width = generator.size
    colours = "colour" if generator.channels == 3 else "grey"
    judge = "a new critic" if config.critic == FRESH else f"the critic of {lead.provenance.name}"
    notes = [f"{judge} judges all sources, at {width}x{height} in {colours}"]
    if asks_for_guide and any(source.generator.n_classes for source in sources):
        notes.append("miner.class_weight is for a single source: of several, classes are mined by the critic alone")
    for source in sources:
        (h, w), c = source.generator.size, source.generator.channels
        if (h, w) != generator.size or c != generator.channels:
            own_colours = "colour" if c == 3 else "grey"
            notes.append(f"images of {source.provenance.name}, {w}x{h} in {own_colours}, are brought to that ({RESIZE})")
    return tuple(notes)


PLUGIN = MineGAN()
