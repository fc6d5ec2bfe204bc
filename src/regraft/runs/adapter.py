"""Adapters on disk: the tensors that a method changed and the digests of its sources; never the target images."""

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
from regraft.core.config import Config as AnyConfig
from regraft.core.config import parse
from regraft.core.errors import AdapterError, MissingCapability, SourceError
from regraft.core.gan import GAN, Provenance, parse_class_shares, tensor_digest
from regraft.core.networks import Critic, Description, Generator
from regraft.core.version import __version__
from regraft.files import known_records
from regraft.files.atomic import write_json, write_tensors, write_text
from regraft.files.weights import read_safetensors
from regraft.runs.folder import RunFolder
from regraft.runs.model_card import licence_of, model_card

FORMAT = known_records.ADAPTER_FORMAT
VERSION = 1


@runtime_checkable
class Restorer(Protocol):
    """The part of a method that loading an adapter needs; this module lies below the methods and cannot import them."""

    Config: type[AnyConfig]
    needs: frozenset[str]
    stands_alone: bool

    def lead(self, sources: Sequence[GAN], config: AnyConfig) -> GAN:
        """Return the source whose image size, critic, objective and recipe are used."""

    def rebuild(self, sources: Sequence[GAN], config: AnyConfig) -> Generator:
        """Build the adapted generator's structure with the sources' weights."""


@dataclasses.dataclass(frozen=True)
class AdapterInfo:
    """The description of an adapter, beside its tensors and sources.

    Attributes:
        method: name of the method.
        config: settings of the method, as plain data.
        image: size, channels, fit and aspect of its images.
        data: digest and number of target images, held-out ones included, and how many were held out.
        seed: of the run.
        step: of the run, whose generator was kept.
        scores: results, as plain data, for the model card.
        findings: what the method learned beside the weights, as plain data.
        class_shares: how often each class is drawn, (n_classes,); None if all are equally likely.
    """

    method: str
    config: dict[str, Any]
    image: dict[str, Any]
    data: dict[str, Any]
    seed: int
    step: int
    scores: tuple[dict[str, Any], ...] = ()
    findings: dict[str, Any] = dataclasses.field(default_factory=dict)
    class_shares: Sequence[float] | None = None


def is_adapter(path: pathlib.Path) -> bool:
    """Return whether a folder holds an adapter."""
    return RunFolder(path).adapter_config.is_file()


def save_adapter(folder: pathlib.Path, generator: Generator, sources: Sequence[GAN], info: AdapterInfo) -> int:
    """Write an adapter folder.

    Args:
        folder: made if missing; an adapter in it is replaced.
        generator: the adapted generator.
        sources: the GANs that it was adapted from; none if it was trained from scratch.
        info: the adapter's description.

    Returns:
        Number of values stored.
    """
    method = discover.plugin("methods", info.method, Restorer)
    tensors = generator.state_dict()
    whole = not sources or method.stands_alone
    if not whole:
        config = parse(method.Config, info.config, info.method)
        original = method.rebuild(sources, config).state_dict()
        tensors = {k: v for k, v in tensors.items() if k not in original or not torch.equal(v.cpu(), original[k].cpu())}
    files = RunFolder(folder)
    write_tensors(files.adapter_tensors, tensors, {"format": "pt"})
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
        "class_shares": None if info.class_shares is None else list(info.class_shares),
        "versions": {"regraft": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    write_json(files.adapter_config, record)
    write_text(files.adapter_card, model_card(folder.name, record, info.scores))
    return sum(t.numel() for t in tensors.values())


def source_record(source: GAN) -> dict[str, Any]:
    """Return the digests and the origin of a source, as adapters keep them."""
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
    """Read an adapter's description.

    Raises:
        AdapterError: if it is missing, damaged or of another version.
    """
    path = RunFolder(folder).adapter_config
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
    """Apply an adapter to its sources.

    Args:
        folder: an adapter or run folder.
        sources: the GANs that it was made from, in order; none for an adapter that stores the whole generator.

    Returns:
        The adapted GAN.  Its critic is the one trained by the run, if the folder still has it, else that of its lead source.

    Raises:
        AdapterError: if the adapter is damaged, or made for another source; both digests are named.
    """
    record = read_config(folder)
    try:
        generator = _generator(folder, record, sources)
        lead = lead_of(record, sources)
        critic = _critic(folder, lead)
        size = tuple(record["image"]["size"])
        shares = parse_class_shares(record.get("class_shares"), generator.n_classes)
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
        licence=licence_of(record),
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
        class_shares=shares,
    )


def check_sources(folder: pathlib.Path, record: dict[str, Any], sources: Sequence[GAN]) -> None:
    """Check, before anything is built, that these are the sources that an adapter was made from.

    Raises:
        AdapterError: with both digests, if a source is another one.
    """
    expected = record["sources"]
    if len(sources) != len(expected):
        names = ", ".join(str(source["name"]) for source in expected)
        raise AdapterError(f"{folder}: made from {len(expected)} source(s) ({names}), {len(sources)} given")
    for number, (source, recorded) in enumerate(zip(sources, expected, strict=True)):
        digest = tensor_digest(source.generator)
        if digest != recorded["generator_digest"]:
            raise AdapterError(
                f"{folder}: source {number + 1} must be {recorded['name']}, generator digest "
                f"{recorded['generator_digest'][:16]}, and {source.provenance.name} has {digest[:16]}...; an adapter works on "
                "the very source it was made from"
            )
        if "autoencoder" in discover.plugin("methods", record["method"], Restorer).needs:
            digest = tensor_digest(source.require("autoencoder", for_=str(folder)))
            if digest != recorded["autoencoder_digest"]:
                raise AdapterError(
                    f"{folder}: source {number + 1} must have the autoencoder of digest "
                    f"{recorded['autoencoder_digest'][:16]}, and {source.provenance.name} has {digest[:16]}...; codes of one "
                    "mean nothing to another"
                )


def _generator(folder: pathlib.Path, record: dict[str, Any], sources: Sequence[GAN]) -> Generator:
    files = RunFolder(folder)
    tensors = _read_tensors(files.adapter_tensors)
    if tensor_digest(tensors) != record["tensor_digest"]:
        raise AdapterError(
            f"{files.adapter_tensors}: its tensors are not those that {files.adapter_config.name} describes; "
            "get the adapter again"
        )
    if record["stored"] == "whole" and record["generator"] is not None:
        return cast(Generator, build_with(Description(**record["generator"]), tensors, str(folder)))
    check_sources(folder, record, sources)
    if not sources:
        raise AdapterError(f"{folder}: has no sources, so it must hold a whole generator and its description; get it again")
    method = discover.plugin("methods", record["method"], Restorer)
    generator = method.rebuild(sources, parse(method.Config, record["config"], record["method"]))
    if record["data"].get("classes") and record["generator"] is not None:
        # The method gave the source classes, so the description has another structure than the source; what the adapter
        # does not store is as in the source.
        with torch.device("meta"):
            names = build(Description(**record["generator"])).state_dict().keys()
        tensors = {k: v for k, v in generator.state_dict().items() if k in names} | tensors
        return cast(Generator, build_with(Description(**record["generator"]), tensors, str(folder)))
    shapes = {k: tuple(v.shape) for k, v in generator.state_dict().items()}
    check_tensors({k: shapes[k] for k in tensors if k in shapes}, tensors, str(files.adapter_tensors))
    generator.load_state_dict(tensors, strict=False)
    return generator


def _class_names(record: dict[str, Any], sources: Sequence[GAN], n: int) -> tuple[str, ...]:
    """Return the names of an adapted generator's ``n`` classes: the target's, else the source's, else none."""
    candidates: list[Sequence[object]] = [record["data"].get("classes") or (), *(s.provenance.classes for s in sources[:1])]
    return next((tuple(map(str, names)) for names in candidates if n and len(names) == n), ())


def save_critic(folder: pathlib.Path, critic: Critic) -> None:
    """Save a run's trained critic, so that the adapted GAN can be a source with a critic."""
    try:
        description = json.dumps(dataclasses.asdict(critic.describe()))
    except MissingCapability:
        description = ""
    write_tensors(RunFolder(folder).critic, critic.state_dict(), {"description": description})


def lead_of(record: dict[str, Any], sources: Sequence[GAN]) -> GAN | None:
    """Return the source whose critic, objective and recipe the adapted GAN keeps; None if there are no sources."""
    if not sources:
        return None
    method = discover.plugin("methods", record["method"], Restorer)
    return method.lead(sources, parse(method.Config, record["config"], record["method"]))


def _critic(folder: pathlib.Path, lead: GAN | None) -> Critic | None:
    path = RunFolder(folder).critic
    source_critic = lead.critic if lead is not None else None
    if not path.is_file():
        return source_critic
    with safetensors.safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("description", "")
    tensors = _read_tensors(path)
    if text:
        return cast(Critic, build_with(Description(**json.loads(text)), tensors, str(path)))
    critic = copy.deepcopy(source_critic)
    if critic is not None:
        critic.load_state_dict(tensors)
        critic.requires_grad_(False).eval()
    return critic


def _read_tensors(path: pathlib.Path) -> dict[str, Tensor]:
    try:
        return read_safetensors(path)
    except SourceError as error:
        raise AdapterError(str(error)) from None
