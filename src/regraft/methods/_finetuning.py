"""Losses that hold a generator near its source, for every method that fine-tunes a copy of one."""

from collections.abc import Collection
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from regraft.core import discover
from regraft.core.config import parse
from regraft.core.gan import GAN
from regraft.core.networks import Generator
from regraft.methods._adversarial import AdversarialConfig, Game
from regraft.regularizers.base import Regularizer, Term


class FinetuningConfig(AdversarialConfig):
    """Settings of methods that fine-tune a source's generator."""

    regularizer: Annotated[str | None, Field(description="Loss that holds the generator near its source: ewc or cdc.")] = None
    regularizer_weight: Annotated[
        float | None, Field(ge=0, description="Factor of that loss; default: the regularizer's own; 0 switches it off.")
    ] = None
    regularizer_settings: Annotated[dict[str, Any], Field(description="Settings of the regularizer itself.")] = {}

    @model_validator(mode="after")
    def _regularized(self) -> Self:
        if self.regularizer is None and (self.regularizer_weight is not None or self.regularizer_settings):
            names = ", ".join(discover.names("regularizers"))
            raise ValueError(f"regularizer_weight and regularizer_settings need regularizer=, one of: {names}")
        return self


def add_regularizer(
    game: Game, config: FinetuningConfig, source: GAN, generator: Generator | None = None, free: Collection[str] = ()
) -> None:
    """Add the chosen regularizer to a game.

    Args:
        game: its generator side gets the loss.
        config: names the regularizer.
        source: what the generator was copied from.
        generator: the copy, where it is a part of the game's generator.
        free: names of its parameters that the method moves without changing any image.

    Raises:
        ConfigError, MissingCapability: if there is none of that name, or it does not work on this source.
    """
    if config.regularizer is None:
        return
    plugin = discover.plugin("regularizers", config.regularizer, Regularizer)
    settings = parse(plugin.Config, config.regularizer_settings, f"settings of {config.regularizer}")
    weight: float = plugin.weight if config.regularizer_weight is None else config.regularizer_weight
    if weight:
        term = plugin.attach(game.generator if generator is None else generator, source, settings, free)
        game.extras[config.regularizer] = _weighted(term, weight)


def _weighted(term: Term, weight: float) -> Term:
    return lambda rng, device: weight * term(rng, device)
