"""Immutable settings, read from YAML and the command line; each error names every mistake and the nearest known name."""

import difflib
import pathlib
import reprlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import yaml
from pydantic import Field
from pydantic_core import ErrorDetails

from regraft.core.errors import ConfigError
from regraft.core.names import storable


class Config(pydantic.BaseModel):
    """Base of all settings; they are immutable, and unknown keys are errors."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)


Penalty = Literal["none", "gradient", "r1"]


class Objective(Config):
    """Losses of critic and generator, and the critic's gradient penalty."""

    loss: Annotated[
        Literal["wgan", "nonsaturating", "hinge"],
        Field(
            description="wgan: difference of mean scores; nonsaturating: softplus of scores; hinge: scores with a margin of 1."
        ),
    ] = "nonsaturating"
    penalty: Annotated[
        Penalty,
        Field(
            description="gradient: (|slope| - 1)^2 at points between real and generated images; r1: |slope|^2 at real images."
        ),
    ] = "r1"
    penalty_weight: Annotated[
        float, Field(ge=0, description="Factor of the penalty; r1 has another factor 1/2, as in its paper.")
    ] = 1.0
    penalty_every: Annotated[
        int, Field(ge=1, description="Compute the penalty at every k-th critic step only, k times as strong.")
    ] = 1
    path_length_weight: Annotated[
        float, Field(ge=0, description="Factor of the path length regularisation, for generators with styles; 0 for none.")
    ] = 0.0
    path_length_every: Annotated[
        int, Field(ge=1, description="Regularise path lengths at every k-th step only, k times as strong.")
    ] = 4
    drift_weight: Annotated[float, Field(ge=0, description="Factor of the mean squared score of real images.")] = 0.0
    class_weight_critic: Annotated[
        float, Field(ge=0, description="Factor of the classification loss on real images, for critics with a classifier.")
    ] = 1.0
    class_weight_generator: Annotated[
        float,
        Field(ge=0, description="Factor of the classification loss on generated images; published: 1, or 0.1 at CIFAR-10."),
    ] = 1.0
    critic_steps: Annotated[int, Field(ge=1, description="Critic steps per generator step.")] = 1


WGAN_GP = Objective(loss="wgan", penalty="gradient", penalty_weight=10.0, critic_steps=5)
NONSATURATING_R1 = Objective()
HINGE = Objective(loss="hinge", penalty="none")
OBJECTIVES = {"wgan-gp": WGAN_GP, "nonsaturating": NONSATURATING_R1, "hinge": HINGE}


class Recipe(Config):
    """Training settings of a family of GANs; a source brings its own, and the user may override any of them."""

    batch: Annotated[int, Field(ge=1, description="Images per optimiser step.")] = 32
    generator_lr: Annotated[float, Field(gt=0, description="Adam step size of the generator.")] = 2e-4
    critic_lr: Annotated[float, Field(gt=0, description="Adam step size of the critic.")] = 2e-4
    miner_lr: Annotated[float, Field(gt=0, description="Adam step size of the miner.")] = 2e-4
    betas: Annotated[tuple[float, float], Field(description="Decay rates of Adam's two moments.")] = (0.0, 0.99)
    ema_decay: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Per-step decay of the moving average of the generator, which is what is kept; 0 for no average.",
        ),
    ] = 0.998
    generator_norm: Annotated[
        Literal["running", "batch"],
        Field(
            description="Statistics of the generator's batch normalisation in training. running: the stored ones; batch: "
            "the batch's own."
        ),
    ] = "running"
    critic_norm: Annotated[
        Literal["running", "batch"],
        Field(
            description="Statistics of the critic's batch normalisation in training. running: the stored ones; batch: "
            "the batch's own."
        ),
    ] = "running"
    noise: Annotated[Literal["const", "random"], Field(description="Noise maps in training, for families that have them.")] = (
        "const"
    )
    style_mixing: Annotated[
        float,
        Field(ge=0, le=1, description="Probability that a batch mixes the styles of two latents, for generators with styles."),
    ] = 0.0


ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)


def parse(model: type[ModelT], data: dict[str, Any], where: str) -> ModelT:
    """Build settings from plain data.

    Args:
        model: class of the settings.
        data: keys and values, as YAML or the command line gave them.
        where: where they come from, for the error.

    Raises:
        ConfigError: listing every mistake.
    """
    try:
        return model.model_validate(_storable(data))
    except pydantic.ValidationError as error:
        problems = [_problem(model, e) for e in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(problems)) from None


def _storable(value: Any) -> Any:
    """Return plain data whose texts can be stored in UTF-8: a path may hold bytes that are none."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_storable(part) for part in value)
    return value


def _problem(model: type[pydantic.BaseModel], error: ErrorDetails) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        return unknown_name("setting", str(error["loc"][-1]), known, shown=path)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message[:1].lower()}{message[1:]} (got {reprlib.repr(error['input'])})"


def _fields_at(model: type[pydantic.BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the names of the settings at a place inside a model; none where the place holds no settings."""
    current: Any = model
    for part in loc:
        field = getattr(current, "model_fields", {}).get(part)
        current = getattr(field, "annotation", None)
    return list(getattr(current, "model_fields", {}))


def unknown_name(what: str, name: str, known: Sequence[str], shown: str | None = None) -> str:
    """Return the error message for an unknown name, with the nearest known name or else all of them.

    Args:
        what: kind of the name, such as ``method``.
        name: what was given.
        known: all names that there are.
        shown: how the message writes the name; ``name`` if left out.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
    return f"no {what} called {shown or name!s}; {hint}"


MAX_YAML = 256 << 10
"""Bytes of the longest YAML file that is read."""


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without references, because a few nested ones can unfold to more than any memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references (*name) are not read; write the value out")
        return super().compose_node(parent, index)


def read_yaml(path: pathlib.Path, what: str) -> dict[str, Any]:
    """Read a YAML file that must hold one mapping.

    Raises:
        ConfigError: if it cannot be read, is longer than ``MAX_YAML`` bytes, is not plain YAML, or is no mapping.
    """
    try:
        if path.stat().st_size > MAX_YAML:
            raise ValueError(f"longer than {MAX_YAML >> 10} kB")
        data = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # _PlainLoader is a SafeLoader
    except Exception as error:  # noqa: BLE001 - PyYAML raises many kinds for made-up tags
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path}: cannot read it as {what}: {reason}") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{path}: {what} must be a mapping of names to values, this is {type(data).__name__}")
    return data


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn ``["a.b=1", "c=text"]`` into nested plain data; values are read as YAML.

    Raises:
        ConfigError: if a pair has no ``=``, or one key is both a value and a group.
    """
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair}: write key=value, for example --set steps=500")
        try:
            value = yaml.safe_load(text) if text.strip() else ""
        except yaml.YAMLError:
            value = text
        *groups, last = key.strip().split(".")
        at = nested
        for group in groups:
            at = at.setdefault(group, {})
            if not isinstance(at, dict):
                raise ConfigError(f"--set {pair}: {group} was already given a value")
        at[last] = _number(value)
    return nested


def _number(value: object) -> object:
    """Turn text such as ``2e-4``, which YAML 1.1 does not take for a number, into the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return nested plain data with that of ``extra`` put over it."""
    merged = dict(base)
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
