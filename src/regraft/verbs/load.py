"""Sources by reference: a path or the name of a bundled or public GAN to a :class:`GAN`; the content decides how it is read."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, cast

from torch import Tensor

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.build import COMPOSITES, build_with
from regraft.core.config import read_yaml, unknown_name
from regraft.core.errors import AdapterError, ConfigError, SourceError
from regraft.core.gan import GAN, forbids_commerce
from regraft.core.networks import Autoencoder, Critic, Generator
from regraft.files import catalogue
from regraft.formats import native
from regraft.formats.base import Format, Network, Parsed, Probe
from regraft.runs import adapter
from regraft.runs.folder import RunFolder
from regraft.verbs import _published

LEAST_SIDE = 4
WEIGHTS = {".pkl", ".pt", ".pth", ".bin", ".ckpt", ".safetensors"}


def load(reference: str | pathlib.Path, on_event: Callable[[dict[str, Any]], None] | None = None) -> GAN:
    """Open a source.

    Args:
        reference: a file, a folder, a source card, a run or adapter folder, or the name of a bundled source or of one in the
            catalogue, which is downloaded when first asked for.
        on_event: told of a download's progress.

    Raises:
        SourceError: if it is nothing that regraft reads; the message says what it is and what was expected.
    """
    path = find(reference, on_event)
    if said := unfinished(path):
        raise SourceError(said)
    if path.is_dir() and adapter.is_adapter(path):
        return load_adapter(path)
    if _published.is_mindgan(path):
        raise SourceError(f"{path}: a MindGAN makes codes; name the ALAE that decodes them with --source (sources=[...])")
    probe = Probe(path)
    for form in formats():
        if form.matches(probe):
            return assemble(_as_listed(form.read(probe), reference), str(path))
    inside = _weights(path)
    if len(inside) == 1:
        return load(inside[0], on_event)
    if inside:
        names = ", ".join(p.name for p in inside[:6])
        raise SourceError(
            f"{path}: holds {len(inside)} files of weights and is no source as a whole; name one of them: {names}"
        )
    raise SourceError(f"{path}: {_looks_like(probe)}; regraft reads {', '.join(f.name for f in formats())} files")


def unfinished(path: pathlib.Path) -> str | None:
    """Of the folder of a run that has not come to its end: that it has not, and how to go on; None for all else."""
    if not RunFolder(path).record.is_file() or adapter.is_adapter(path) or (path / native.RECORD).is_file():
        return None
    job = _settings_of(path)
    # What pretrain sets and adapt does not: neither sources nor anything held out, measured or chosen by it.
    alone = not job.get("sources") and [job.get(k) for k in ("held_out", "evaluate_every", "keep")] == [0, 0, "last"]
    return f"{path}: this run is not finished; go on with: regraft {'pretrain' if alone else 'adapt'} --resume {path}"


def _settings_of(folder: pathlib.Path) -> dict[str, Any]:
    """Return a run's settings as plain data, unchecked; empty if there are none."""
    path = RunFolder(folder).settings
    return read_yaml(path, "a run's settings") if path.is_file() else {}


def _weights(path: pathlib.Path) -> list[pathlib.Path]:
    """Files of a folder that look like weights by their names, a few at most."""
    found = (p for p in path.iterdir() if p.suffix in WEIGHTS and p.is_file()) if path.is_dir() else iter(())
    return sorted(itertools.islice(found, 100))


def find(reference: str | pathlib.Path, on_event: Callable[[dict[str, Any]], None] | None = None) -> pathlib.Path:
    """The path that a reference means; a source of the catalogue is downloaded if it is not here yet.

    Raises:
        SourceError: if there is no such file, folder, bundled source or source of the catalogue.
    """
    path = pathlib.Path(reference)
    if path.exists():
        return path
    index = path.with_name(f"{path.name}.index")
    if index.is_file():  # TensorFlow names a checkpoint by what its files' names share
        return index
    if str(reference) in bundled():
        return bundled()[str(reference)]
    listed = catalogue.sources()
    if is_public(reference):
        return catalogue.bring(listed[str(reference)], on_event)
    near = unknown_name("bundled source", str(reference), [*bundled(), *listed])
    # The whole catalogue would hide what is said.
    near = near if "did you mean" in near else unknown_name("bundled source", str(reference), list(bundled()))
    raise SourceError(f"{reference}: there is no such file or folder, and {near} (regraft sources lists the catalogue)")


def _as_listed(parsed: Parsed, reference: str | pathlib.Path) -> Parsed:
    """What the catalogue knows of a source and its file does not say."""
    if not is_public(reference):
        return parsed
    entry = catalogue.sources()[str(reference)]
    origin = parsed.provenance
    listed = dataclasses.replace(
        origin,
        name=entry.name,
        licence=entry.licence or origin.licence,
        dataset=entry.dataset or origin.dataset,
        url=entry.urls[0] if entry.urls else entry.page or origin.url,
    )
    return dataclasses.replace(parsed, provenance=listed)


def is_public(reference: str | pathlib.Path) -> bool:
    """Whether a reference means a source of the catalogue."""
    name = str(reference)
    return not pathlib.Path(name).exists() and name not in bundled() and name in catalogue.sources()


def bundled() -> dict[str, pathlib.Path]:
    """Sources that ship inside the package, by name."""
    root = pathlib.Path(str(resources.files("regraft"))) / "assets" / "sources"
    return {p.name: p for p in sorted(root.iterdir()) if (p / native.RECORD).is_file()} if root.is_dir() else {}


def bundled_records() -> list[dict[str, Any]]:
    """Bundled sources as plain data, for lists."""
    made = []
    for name, path in bundled().items():
        record = native.read_record(path / native.RECORD)
        origin = record.get("provenance") or {}
        size = (record.get("critic") or {}).get("config", {}).get("size") or [None]
        made.append(
            {
                "name": name,
                "path": str(path),
                "kind": "bundled",
                "cached": True,
                "family": record["generator"]["kind"],
                "resolution": size[0],
                "dataset": origin.get("dataset"),
                "licence": origin.get("licence"),
                "noncommercial": forbids_commerce(origin.get("licence")),
            }
        )
    return made


def bundled_images(name: str) -> pathlib.Path:
    """A folder of target images that ships inside the package."""
    return pathlib.Path(str(resources.files("regraft"))) / "assets" / "targets" / name


def formats() -> list[Format]:
    """All formats, specific ones first."""
    found: list[Format] = [discover.plugin("formats", name, Format) for name in discover.names("formats")]
    return sorted(found, key=lambda form: form.order)


def assemble(parsed: Parsed, where: str) -> GAN:
    """Build what a format read.

    Raises:
        SourceError: if it names a network that cannot be built.
    """
    moved: dict[Any, Tensor] = {}

    def made(network: Network | None) -> object:
        return None if network is None else build_with(network.description, network.tensors, where, moved)

    try:
        backbone = discover.plugin("backbones", _innermost(parsed.generator), Backbone)
        networks = made(parsed.generator), made(parsed.critic), made(parsed.autoencoder)
    except ConfigError as error:
        raise SourceError(f"{where}: describes a network that cannot be built: {error}") from None
    generator = cast(Generator, networks[0])
    if min(generator.size) < LEAST_SIDE:
        height, width = generator.size
        raise SourceError(f"{where}: would make images of {width}x{height}; if this is a critic, name the generator's file")
    objective, recipe = backbone.training(max(generator.size))
    return GAN(
        generator,
        cast(Critic | None, networks[1]),
        autoencoder=cast(Autoencoder | None, networks[2]),
        objective=parsed.objective or objective,
        recipe=parsed.recipe or recipe,
        provenance=parsed.provenance,
        aspect=parsed.aspect,
    )


def load_adapter(path: str | pathlib.Path, sources: list[GAN | str | pathlib.Path] | None = None) -> GAN:
    """Open an adapter or run folder as an adapted GAN.

    Args:
        path: the folder.
        sources: its sources, loaded or as references.  Where left out, they are looked for in the run's settings
            and among the bundled and public sources.

    Raises:
        AdapterError: if a source cannot be found or is another one than the adapter was made from.
    """
    folder = pathlib.Path(path)
    if sources and _published.is_mindgan(folder):
        return _published.open_mindgan(folder, sources[0] if isinstance(sources[0], GAN) else load(sources[0]))
    if said := unfinished(folder):
        raise AdapterError(said)
    if not adapter.is_adapter(folder):
        raise AdapterError(f"{folder}: holds no {RunFolder(folder).adapter_config.name}, so it is no adapter or run folder")
    record = adapter.read_config(folder)
    if sources is None:
        if record["stored"] == "whole" and record["generator"] is not None:
            return adapter.load_adapter(folder, [])
        sources = list(_remembered(folder, record))
    return adapter.load_adapter(folder, [s if isinstance(s, GAN) else load(s) for s in sources])


def lead_source(folder: pathlib.Path, sources: Sequence[GAN | str | pathlib.Path] | None = None) -> GAN | None:
    """The source whose critic an adapter was trained and measured with; None if it has no source.

    Raises:
        AdapterError: if a source cannot be found.
    """
    record = adapter.read_config(folder)
    given = list(sources) if sources else list(_remembered(folder, record))
    return adapter.lead_of(record, [s if isinstance(s, GAN) else load(s) for s in given])


def _remembered(folder: pathlib.Path, record: dict[str, object]) -> list[str]:
    """Where an adapter's sources may lie."""
    named = list(_settings_of(folder).get("sources", []))
    found, listed = [], catalogue.sources()
    wanted = cast(list[dict[str, object]], record["sources"])
    for number, need in enumerate(wanted):
        candidates = [str(named[number])] if number < len(named) else []
        candidates += [str(folder / str(need["name"])), str(need["name"])]
        hit = next((c for c in candidates if pathlib.Path(c).exists() or c in bundled() or c in listed), None)
        if hit is None:
            raise AdapterError(
                f"{folder}: needs its source {need['name']}, generator digest {str(need['generator_digest'])[:16]}, which is "
                f"not at {' or '.join(candidates)}; name it with sources=[...] or --source"
            )
        found.append(hit)
    return found


def _innermost(network: Network) -> str:
    """The backbone inside composites."""
    kind, config = network.description.kind, network.description.config
    while kind in COMPOSITES:
        outer = config["parts"][config["lead"]] if kind == "mixed" else config
        inner = outer["autoencoder" if kind == "decoded" else "source"]
        kind, config = inner["kind"], inner["config"]
    return kind


def _looks_like(probe: Probe) -> str:
    if probe.path.is_dir():
        names = sorted(p.name for p in itertools.islice(probe.path.iterdir(), 1000))[:6]
        return f"a folder with {', '.join(names) or 'nothing in it'}, no source that regraft knows"
    head = probe.head
    kinds = {
        b"\x89PNG": "a PNG picture",
        b"\xff\xd8\xff": "a JPEG picture",
        b"PK\x03\x04": "a zip archive",
        b"<": "a web page or XML",
    }
    kind = next((what for start, what in kinds.items() if head.startswith(start)), None)
    if kind is None:
        kind = "an empty file" if not head else "a pickle" if head[:1] == b"\x80" else f"a file beginning with {head[:8]!r}"
    return f"{kind}, no source that regraft knows"
