"""Source cards: a small YAML beside weights, for what a state dict does not say.

    regraft_card: 1
    name: celeba32-dcgan
    generator: netG.pth                # or {file: ..., activation: relu, layers: [{stride: 2, padding: 1}, ...]}
    critic: netD.pth
    latent: {distribution: uniform}
    licence: MIT

Every key but ``regraft_card`` and ``generator`` may be left out; what is left out is inferred and said.
"""

import contextlib
import pathlib
from typing import Annotated, Literal

from pydantic import Field, field_validator
from torch import Tensor

from regraft.core.config import OBJECTIVES, Config, Objective, Recipe, parse, read_yaml
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats._choice import by_card
from regraft.formats._hints import LatentHints, NetworkHints
from regraft.formats._layered import infer_pair
from regraft.formats._order import check_alphabetical
from regraft.formats._state_dicts import clean, is_safetensors, read_weights
from regraft.formats.base import Format, Parsed, Probe

NAMES = ("source.yaml", "source.yml")


class Card(Config):
    """The fields of a source card."""

    regraft_card: Annotated[Literal[1], Field(description="Version of this layout.")]
    generator: Annotated[NetworkHints, Field(description="File of the generator, or a mapping with hints.")]
    critic: Annotated[NetworkHints | None, Field(description="File of the critic, or a mapping with hints.")] = None
    name: Annotated[str | None, Field(description="How reports call the source.")] = None
    latent: Annotated[LatentHints, Field(description="Distribution of the generator's input.")] = LatentHints()
    size: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | tuple[int, int] | None, Field(description="Side, or height and width.")
    ] = None
    image_range: Annotated[Literal["signed", "unit"], Field(description="signed: files work on [-1, 1]; unit: on [0, 1].")] = (
        "signed"
    )
    objective: Annotated[Objective | None, Field(description="A name (wgan-gp, nonsaturating, hinge) or settings.")] = None
    recipe: Annotated[Recipe | None, Field(description="Training settings that differ from the family's.")] = None
    dataset: Annotated[str | None, Field(description="What it was trained on.")] = None
    licence: Annotated[str | None, Field(description="Licence of the weights; carried into adapters.")] = None
    url: Annotated[str | None, Field(description="Where the weights came from.")] = None

    @field_validator("generator", "critic", mode="before")
    @classmethod
    def _file_alone(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value

    @field_validator("objective", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return OBJECTIVES.get(value, value) if isinstance(value, str) else value


class CardFormat(Format):
    """A source card, or a folder that holds ``source.yaml``."""

    name = "source card"
    order = 10

    def matches(self, probe: Probe) -> bool:
        """Whether it is, or holds, a YAML with the key ``regraft_card``."""
        path = card_path(probe.path)
        if path is None:
            return False
        with contextlib.suppress(ConfigError):
            return "regraft_card" in read_yaml(path, "a source card")
        return False

    def read(self, probe: Probe) -> Parsed:
        """Read the card and the files that it names."""
        path = card_path(probe.path) or probe.path
        card = parse(Card, read_yaml(path, "a source card"), str(path))
        if card.generator.file is None:
            raise SourceError(f"{path}: generator.file is missing: name the generator's weights")
        files: dict[str, str] = {}
        notes: list[str] = []
        generator = _read_tensors(path, card.generator, "generator", files, notes)
        critic = _read_tensors(path, card.critic, "critic", files, notes) if card.critic and card.critic.file else None
        size = (card.size, card.size) if isinstance(card.size, int) else card.size
        inferred = infer_pair(
            generator,
            critic,
            str(path),
            generator_hints=card.generator,
            critic_hints=card.critic or NetworkHints(),
            latent=card.latent,
            size=size,
            image_range=card.image_range,
        )
        provenance = Provenance(
            name=card.name or path.parent.name,
            format=self.name,
            files=files,
            licence=card.licence,
            dataset=card.dataset,
            url=card.url,
            assumptions=(*notes, *inferred.assumptions),
        )
        return Parsed(inferred.generator, inferred.critic, provenance, objective=card.objective, recipe=card.recipe)


def card_path(path: pathlib.Path) -> pathlib.Path | None:
    """The card that a path means: itself, or the one in a folder."""
    if path.is_dir():
        return next((path / name for name in NAMES if (path / name).is_file()), None)
    return path if path.suffix in (".yaml", ".yml") and path.is_file() else None


def _read_tensors(
    card: pathlib.Path, hints: NetworkHints, which: str, files: dict[str, str], notes: list[str]
) -> dict[str, Tensor]:
    """Read the state dict that a card names; adds the file's digest to ``files`` and what has to be said to ``notes``."""
    file = card.parent / str(hints.file)
    if not file.is_file():
        raise SourceError(f"{card}: names {hints.file}, and there is no such file beside it")
    files[file.name] = sha256(file)
    chosen = by_card(read_weights(file), str(file), which, hints.key, hints.prefix)
    notes += chosen.notes
    tensors = clean(chosen.tensors)
    if is_safetensors(file) and not hints.order:
        check_alphabetical(tensors, str(file), which)
    return tensors


PLUGIN = CardFormat()
