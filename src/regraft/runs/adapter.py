"""Adapter folders: what a method changed, the sources it changes by their digests, and nothing of the target images."""

import copy
import dataclasses
import json
import pathlib
import platform
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import safetensors
import torch
from torch import Tensor

from regraft.composites.decoded import autoencoder_of
from regraft.core import discover
from regraft.core.build import build, build_with, check_tensors
from regraft.core.config import Config, parse
from regraft.core.errors import AdapterError, MissingCapability, SourceError
from regraft.core.gan import GAN, Provenance, forbids_commerce, tensor_digest
from regraft.core.networks import Critic, Description, Generator
from regraft.core.version import __version__
from regraft.files.atomic import write_json, write_tensors, write_text
from regraft.files.weights import read_safetensors

FORMAT = "regraft-adapter"
VERSION = 1
TENSORS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CARD = "README.md"
HUB_LICENCES = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc",
        "cc0-1.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-3.0",
        "agpl-3.0",
        "unlicense",
    ]
)
"""Licences that model hubs know, by their identifiers there."""
CRITIC = "state/critic.safetensors"


@runtime_checkable
class Restorer(Protocol):
    """What an adapter asks of its method; the methods themselves lie above this module."""

    Config: type[Config]
    needs: frozenset[str]
    stands_alone: bool

    def lead(self, sources: Sequence[GAN], config: Any) -> GAN:
        """Return the source whose image size, critic and way of training are taken."""

    def rebuild(self, sources: Sequence[GAN], config: Any) -> Generator:
        """Build the adapted generator's structure with the sources' weights."""


@dataclasses.dataclass(frozen=True)
class AdapterInfo:
    """What an adapter says of itself beside its tensors.

    Attributes:
        method, config: how it was made.
        image: size, channels, fit and aspect of its images.
        data: digest and number of target images, held-out ones included, and how many were held out.
        seed, step: of the run.
        scores: results, as plain data, for the model card.
        findings: what the method learned beside the weights, as plain data.
    """

    method: str
    config: dict[str, Any]
    image: dict[str, Any]
    data: dict[str, Any]
    seed: int
    step: int
    scores: tuple[dict[str, Any], ...] = ()
    findings: dict[str, Any] = dataclasses.field(default_factory=dict)


def is_adapter(path: pathlib.Path) -> bool:
    """Whether a folder holds an adapter."""
    return (path / CONFIG).is_file()


def save_adapter(folder: pathlib.Path, generator: Generator, sources: Sequence[GAN], info: AdapterInfo) -> int:
    """Write an adapter folder.

    Args:
        folder: is made if missing; files of an adapter that are there are replaced.
        generator: the adapted generator.
        sources: the GANs it was adapted from, none if it was trained without.
        info: what to say of it.

    Returns:
        Number of values stored.
    """
    method = discover.plugin("methods", info.method, Restorer)
    tensors = generator.state_dict()
    whole = not sources or method.stands_alone
    if not whole:
        config = parse(method.Config, info.config, info.method)
        before = method.rebuild(sources, config).state_dict()
        tensors = {k: v for k, v in tensors.items() if k not in before or not torch.equal(v.cpu(), before[k].cpu())}
    write_tensors(folder / TENSORS, tensors, {"format": "pt"})
    try:
        description: dict[str, Any] | None = dataclasses.asdict(generator.describe())
    except MissingCapability:
        description = None
    record = {
        "format": FORMAT,
        "format_version": VERSION,
        "method": info.method,
        "config": info.config,
        "sources": [source_record(source) for source in sources],
        "generator": description,
        "stored": "whole" if whole else "changed",
        "tensor_digest": tensor_digest(tensors),
        "image": info.image,
        "data": info.data,
        "seed": info.seed,
        "step": info.step,
        "findings": info.findings,
        "versions": {"regraft": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    write_json(folder / CONFIG, record)
    write_text(folder / CARD, model_card(folder.name, record, info.scores))
    return sum(t.numel() for t in tensors.values())


def source_record(source: GAN) -> dict[str, Any]:
    """Identity and origin of a source, as adapters keep them."""
    origin = source.provenance
    return {
        "name": origin.name,
        "format": origin.format,
        "generator_digest": tensor_digest(source.generator),
        "critic_digest": tensor_digest(source.critic) if source.critic is not None else None,
        "autoencoder_digest": tensor_digest(source.autoencoder) if source.autoencoder is not None else None,
        "files": origin.files,
        "licence": origin.licence,
        "noncommercial": origin.noncommercial,
        "dataset": origin.dataset,
        "url": origin.url,
        "lineage": list(origin.lineage),
    }


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """An adapter's description.

    Raises:
        AdapterError: if it is missing, damaged or of another version.
    """
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record["format_version"]
        if record["format"] != FORMAT:
            raise KeyError("format")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(f"{path}: not a readable adapter description ({type(error).__name__}: {error})") from None
    if version != VERSION:
        raise AdapterError(f"{path}: adapter format {version}; this regraft {__version__} reads {VERSION}")
    return cast(dict[str, Any], record)


def load_adapter(folder: pathlib.Path, sources: Sequence[GAN]) -> GAN:
    """Put an adapter on its sources.

    Args:
        folder: an adapter or run folder.
        sources: the GANs it was made from, in order; none for an adapter that is whole.

    Returns:
        The adapted GAN; its critic is the run's own where the run folder still has it, else its leading source's.

    Raises:
        AdapterError: if it is damaged or made for another source; both digests are named.
    """
    record = read_config(folder)
    try:
        generator = _generator(folder, record, sources)
        lead = lead_of(record, sources)
        critic = _critic(folder, lead)
        size = tuple(record["image"]["size"])
    except (KeyError, TypeError, ValueError, SourceError) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"{folder}: the adapter does not hang together: {error}") from None
    if size != generator.size:
        raise AdapterError(f"{folder}: made for images of {size}, its generator makes {generator.size}")
    lineage = tuple(record["sources"])
    provenance = Provenance(
        name=folder.name,
        format="adapter",
        licence=_licence(record),
        dataset=None,
        lineage=lineage,
        files={},
        classes=_class_names(record, sources, generator.n_classes),
    )
    return GAN(
        generator.requires_grad_(False).eval(),
        critic,
        autoencoder=autoencoder_of(generator, lead),
        objective=lead.objective if lead else None,
        recipe=lead.recipe if lead else None,
        provenance=provenance,
        aspect=record["image"].get("aspect"),
    )


def check_sources(folder: pathlib.Path, record: dict[str, Any], sources: Sequence[GAN]) -> None:
    """Refuse sources that an adapter was not made for, before anything is built.

    Raises:
        AdapterError: with both digests.
    """
    wanted = record["sources"]
    if len(sources) != len(wanted):
        names = ", ".join(str(w["name"]) for w in wanted)
        raise AdapterError(f"{folder}: made from {len(wanted)} source(s) ({names}), {len(sources)} given")
    for number, (source, need) in enumerate(zip(sources, wanted, strict=True)):
        have = tensor_digest(source.generator)
        if have != need["generator_digest"]:
            raise AdapterError(
                f"{folder}: source {number + 1} must be {need['name']}, generator digest {need['generator_digest'][:16]}, and "
                f"{source.provenance.name} has {have[:16]}...; an adapter works on the very source it was made from"
            )
        if "autoencoder" in discover.plugin("methods", record["method"], Restorer).needs:
            theirs = tensor_digest(source.require("autoencoder", for_=str(folder)))
            if theirs != need["autoencoder_digest"]:
                raise AdapterError(
                    f"{folder}: source {number + 1} must have the autoencoder of digest {need['autoencoder_digest'][:16]}, and "
                    f"{source.provenance.name} has {theirs[:16]}...; codes of one mean nothing to another"
                )


def _generator(folder: pathlib.Path, record: dict[str, Any], sources: Sequence[GAN]) -> Generator:
    tensors = _read_tensors(folder / TENSORS)
    if tensor_digest(tensors) != record["tensor_digest"]:
        raise AdapterError(f"{folder / TENSORS}: its tensors are not those that {CONFIG} describes; get the adapter again")
    if record["stored"] == "whole" and record["generator"] is not None:
        return cast(Generator, build_with(Description(**record["generator"]), tensors, str(folder)))
    check_sources(folder, record, sources)
    method = discover.plugin("methods", record["method"], Restorer)
    generator = method.rebuild(sources, parse(method.Config, record["config"], record["method"]))
    if record["data"].get("classes") and record["generator"] is not None:
        # The source was given classes, which its structure shows: what is not in the adapter is as the source has it.
        with torch.device("meta"):
            names = build(Description(**record["generator"])).state_dict().keys()
        tensors = {k: v for k, v in generator.state_dict().items() if k in names} | tensors
        return cast(Generator, build_with(Description(**record["generator"]), tensors, str(folder)))
    wanted = {k: tuple(v.shape) for k, v in generator.state_dict().items()}
    check_tensors({k: wanted[k] for k in tensors if k in wanted}, tensors, str(folder / TENSORS))
    generator.load_state_dict(tensors, strict=False)
    return generator


def _class_names(record: dict[str, Any], sources: Sequence[GAN], n: int) -> tuple[str, ...]:
    """Names of an adapted generator's ``n`` classes: the target's, else the source's, where they are known."""
    target = record["data"].get("classes") or ()
    known: list[Sequence[Any]] = [target, *(s.provenance.classes for s in sources[:1])]
    return next((tuple(map(str, names)) for names in known if n and len(names) == n), ())


def save_critic(folder: pathlib.Path, critic: Critic) -> None:
    """Keep a run's trained critic, so that the run can be a source."""
    try:
        description = json.dumps(dataclasses.asdict(critic.describe()))
    except MissingCapability:
        description = ""
    write_tensors(folder / CRITIC, critic.state_dict(), {"description": description})


def lead_of(record: dict[str, Any], sources: Sequence[GAN]) -> GAN | None:
    """The source whose critic and way of training an adapter goes on with."""
    if not sources:
        return None
    method = discover.plugin("methods", record["method"], Restorer)
    return method.lead(sources, parse(method.Config, record["config"], record["method"]))


def _critic(folder: pathlib.Path, lead: GAN | None) -> Critic | None:
    path = folder / CRITIC
    source = lead.critic if lead is not None else None
    if not path.is_file():
        return source
    with safetensors.safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("description", "")
    tensors = _read_tensors(path)
    if text:
        return cast(Critic, build_with(Description(**json.loads(text)), tensors, str(path)))
    made = copy.deepcopy(source)
    if made is not None:
        made.load_state_dict(tensors)
        made.requires_grad_(False).eval()
    return made


def _read_tensors(path: pathlib.Path) -> dict[str, Tensor]:
    try:
        return read_safetensors(path)
    except SourceError as error:
        raise AdapterError(str(error)) from None


def _licence(record: dict[str, Any]) -> str | None:
    licences = [str(s["licence"]) for s in record["sources"] if s.get("licence")]
    return "; ".join(dict.fromkeys(licences)) or None


def model_card(name: str, record: dict[str, Any], scores: Sequence[dict[str, Any]]) -> str:
    """The README of an adapter folder, with the hub's front matter."""
    bases = [str(s["name"]) for s in record["sources"]]
    licence = _licence(record)
    terms = ["**Non-commercial use only**: a source's licence forbids commercial use, also of what is made from it.", ""]
    terms = terms if forbids_commerce(licence) else []
    front = ["---", "library_name: regraft", "tags: [gan, adapter, regraft]"]
    if bases:
        front += [f"base_model: {json.dumps(bases)}", "base_model_relation: adapter"]
    front += _hub_licence(licence) if bases else []
    front += ["---", ""]
    height, width = record["image"]["size"]
    lines = [
        f"# {name}",
        "",
        f"A generator adapted with regraft's method `{record['method']}`"
        + (f" from {', '.join(bases)}" if bases else " without a source")
        + f", on {record['data']['n']} images of {width}x{height}"
        + (f", of which {record['data']['held_out']} were held out for measuring." if record["data"]["held_out"] else "."),
        *(["", f"Classes: {', '.join(map(str, record['data']['classes']))}."] if record["data"].get("classes") else []),
        "",
        "```python",
        "import regraft",
        "",
        *(["# its sources by name, or where their files are on your machine"] if record["stored"] == "changed" else []),
        f'gan = regraft.load_adapter("{name}"' + (f", sources={json.dumps(bases)})" if record["stored"] == "changed" else ")"),
        "images = gan.sample(16, seed=0)",
        "```",
        "",
        f"Licence of the source: {licence or 'not stated'}.  An adapter inherits the terms of its source.",
        "",
        *terms,
    ]
    if scores:
        lines += ["| measure | value | n real | n generated |", "|---|---|---|---|"]
        lines += [f"| {s['name']} | {s['value']:.4g} | {s['n_real']} | {s['n_fake']} |" for s in scores]
        lines.append("")
    return "\n".join(front + lines)


def _hub_licence(licence: str | None) -> list[str]:
    """Front matter on a licence: the hub's identifier where it has one."""
    if licence is None:
        return ["license: unknown"]
    identifier = licence.strip().lower().replace(" ", "-")
    return (
        [f"license: {identifier}"] if identifier in HUB_LICENCES else ["license: other", f"license_name: {json.dumps(licence)}"]
    )
