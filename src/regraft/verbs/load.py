"""The verbs ``load`` and ``load_adapter``: open a GAN by its path or name; the file's content decides how it is read."""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, cast

from torch import Tensor, nn

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.build import COMPOSITES, Place, build_with
from regraft.core.config import read_yaml, unknown_name
from regraft.core.errors import AdapterError, ConfigError, SourceError
from regraft.core.finite import nonfinite
from regraft.core.gan import GAN, forbids_commerce, parse_class_shares
from regraft.core.names import existing
from regraft.core.networks import Autoencoder, Critic, Generator
from regraft.files import catalogue
from regraft.formats import native
from regraft.formats.base import Format, Network, Parsed, Probe
from regraft.runs import adapter
from regraft.runs.folder import RunFolder
from regraft.verbs import _published
from regraft.verbs._arguments import Emit, Source

LEAST_SIDE = 4
WEIGHTS = {".pkl", ".pt", ".pth", ".bin", ".ckpt", ".safetensors"}


def load(reference: str | pathlib.Path, on_event: Emit | None = None, *, allow_nonfinite: bool = False) -> GAN:
    """Open a source.

    Args:
        reference: a file, a folder, a source card, a run or adapter folder, or the name of a bundled source or of a public
            one, which is downloaded when it is first opened.
        on_event: called with the progress of a download.
        allow_nonfinite: whether weights may be NaN or infinite; such a source can be looked at and not be used.

    Returns:
        The GAN, on the CPU, frozen and in evaluation mode.

    Raises:
        SourceError: if regraft cannot read it; the message says what it is and what was expected.
        AdapterError: if it is an adapter that is damaged, or whose sources are not found.
    """
    path = find(reference, on_event)
    if how_to_resume := unfinished(path):
        raise SourceError(how_to_resume)
    if path.is_dir() and adapter.is_adapter(path):
        return load_adapter(path)
    if _published.is_mindgan(path):
        raise SourceError(f"{path}: a MindGAN makes codes; name the ALAE that decodes them with --source (sources=[...])")
    probe = Probe(path)
    for form in formats():
        if form.matches(probe):
            parsed = _add_catalogue_facts(form.read(probe), reference)
            origin = parsed.provenance
            origin = dataclasses.replace(origin, assumptions=(*origin.assumptions, *probe.passed_over()))
            parsed = dataclasses.replace(parsed, provenance=origin)
            return build_gan(parsed, str(path), allow_nonfinite=allow_nonfinite)
    weights = _weights_in(path)
    chosen = weights[0] if len(weights) == 1 else _generator_in(path)
    if chosen is not None:
        return load(chosen, on_event, allow_nonfinite=allow_nonfinite)
    if weights:
        names = ", ".join(p.name for p in weights[:6])
        raise SourceError(
            f"{path}: holds {len(weights)} files of weights and is no source as a whole; name one of them: {names}"
        )
    raise SourceError(f"{path}: {_looks_like(probe)}; regraft reads {', '.join(f.name for f in formats())} files")


def unfinished(path: pathlib.Path) -> str | None:
    """Return how to resume an unfinished run, or None if the path is not one."""
    if not RunFolder(path).record.is_file() or adapter.is_adapter(path) or (path / native.RECORD).is_file():
        return None
    job = _settings_of(path)
    # These settings are those of pretrain, which has no sources and holds no images out.
    pretrains = not job.get("sources") and [job.get(k) for k in ("held_out", "evaluate_every", "keep")] == [0, 0, "last"]
    return f"{path}: this run is not finished; go on with: regraft {'pretrain' if pretrains else 'adapt'} --resume {path}"


def _settings_of(folder: pathlib.Path) -> dict[str, Any]:
    """Return a run's settings as plain data, unchecked; empty if there are none."""
    path = RunFolder(folder).settings
    return read_yaml(path, "a run's settings") if path.is_file() else {}


def _weights_in(path: pathlib.Path) -> list[pathlib.Path]:
    """Return files of a folder whose suffix is that of weights, at most 100; none if the path is no folder."""
    files = (p for p in path.iterdir() if p.suffix in WEIGHTS and p.is_file()) if path.is_dir() else iter(())
    return sorted(itertools.islice(files, 100))


def _generator_in(folder: pathlib.Path) -> pathlib.Path | None:
    """Return the file of a folder that stands for all of its weights, by any format's rules."""
    found = (form.generator_in(folder) for form in formats()) if folder.is_dir() else iter(())
    return next((file for file in found if file is not None), None)


def find(reference: str | pathlib.Path, on_event: Emit | None = None) -> pathlib.Path:
    """Find the path of a source; a public one is downloaded if it is not on this machine.

    Args:
        reference: a path, or the name of a bundled or public source.
        on_event: called with the progress of a download.

    Raises:
        SourceError: if there is no such file or folder, and no source of that name.
    """
    path = pathlib.Path(existing(str(reference)))
    if path.exists():
        return path
    index = path.with_name(f"{path.name}.index")
    if index.is_file():  # TensorFlow names a checkpoint by the common stem of its files
        return index
    if str(reference) in bundled():
        return bundled()[str(reference)]
    listed = catalogue.sources()
    if is_public(reference):
        return catalogue.fetch_source(listed[str(reference)], on_event)
    hint = unknown_name("bundled source", str(reference), [*bundled(), *listed])
    if "did you mean" not in hint:  # the names of the whole catalogue would hide the rest of the message
        hint = unknown_name("bundled source", str(reference), list(bundled()))
    raise SourceError(f"{reference}: there is no such file or folder, and {hint} (regraft sources lists the catalogue)")


def _add_catalogue_facts(parsed: Parsed, reference: str | pathlib.Path) -> Parsed:
    """Add to a public source the name, licence, data set and address that the catalogue gives; others stay as they are."""
    if not is_public(reference):
        return parsed
    entry = catalogue.sources()[str(reference)]
    origin = parsed.provenance
    provenance = dataclasses.replace(
        origin,
        name=entry.name,
        licence=entry.licence or origin.licence,
        dataset=entry.dataset or origin.dataset,
        url=entry.urls[0] if entry.urls else entry.page or origin.url,
    )
    return dataclasses.replace(parsed, provenance=provenance)


def is_public(reference: str | pathlib.Path) -> bool:
    """Return whether a reference is the name of a public source, one of the catalogue."""
    name = str(reference)
    return not pathlib.Path(name).exists() and name not in bundled() and name in catalogue.sources()


def bundled() -> dict[str, pathlib.Path]:
    """Return the folders of the sources that ship inside the package, by name."""
    root = pathlib.Path(str(resources.files("regraft"))) / "assets" / "sources"
    return {p.name: p for p in sorted(root.iterdir()) if (p / native.RECORD).is_file()} if root.is_dir() else {}


def bundled_records() -> list[dict[str, Any]]:
    """Describe the bundled sources as plain data, as :func:`regraft.list_sources` returns them."""
    records = []
    for name, path in bundled().items():
        record = native.read_record(path / native.RECORD)
        origin = record.get("provenance") or {}
        size = (record.get("critic") or {}).get("config", {}).get("size") or [None]
        records.append(
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
    return records


def bundled_images(name: str) -> pathlib.Path:
    """Return a folder of target images that ships inside the package."""
    return pathlib.Path(str(resources.files("regraft"))) / "assets" / "targets" / name


def formats() -> list[Format]:
    """Return all formats, specific ones first."""
    plugins: list[Format] = [discover.plugin("formats", name, Format) for name in discover.names("formats")]
    return sorted(plugins, key=lambda form: form.order)


def build_gan(parsed: Parsed, where: str, *, allow_nonfinite: bool = False) -> GAN:
    """Build the networks that a format has read.

    Args:
        parsed: what it has read.
        where: the file, for errors.
        allow_nonfinite: whether weights may be NaN or infinite, which is then said among the assumptions.

    Raises:
        SourceError: if a network cannot be built, or weights are not finite.
    """
    parsed = _with_finite_weights(parsed, where, allow_nonfinite)
    moved: dict[Place, Tensor] = {}

    def build(network: Network | None) -> nn.Module | None:
        return None if network is None else build_with(network.description, network.tensors, where, moved)

    try:
        backbone = discover.plugin("backbones", _innermost_kind(parsed.generator), Backbone)
        networks = build(parsed.generator), build(parsed.critic), build(parsed.autoencoder)
    except ConfigError as error:
        raise SourceError(f"{where}: describes a network that cannot be built: {error}") from None
    generator = cast(Generator, networks[0])
    if min(generator.size) < LEAST_SIDE:
        height, width = generator.size
        raise SourceError(f"{where}: would make images of {width}x{height}; if this is a critic, name the generator's file")
    try:
        shares = parse_class_shares(parsed.class_shares, generator.n_classes)
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None
    objective, recipe = backbone.training(max(generator.size))
    return GAN(
        generator,
        cast(Critic | None, networks[1]),
        autoencoder=cast(Autoencoder | None, networks[2]),
        objective=parsed.objective or objective,
        recipe=parsed.recipe or recipe,
        provenance=parsed.provenance,
        aspect=parsed.aspect,
        class_shares=shares,
    )


def _with_finite_weights(parsed: Parsed, where: str, allow_nonfinite: bool) -> Parsed:
    """Check that all weights are finite; where they need not be, the provenance says which are not."""
    problems = []
    networks = {"generator": parsed.generator, "critic": parsed.critic, "autoencoder": parsed.autoencoder}
    for role, network in networks.items():
        found = {} if network is None else nonfinite(network.tensors)
        file_names = {} if network is None else network.file_names
        # What follows from a file's tensors, a mean style for example, is not finite because they are not.
        named = {name: many for name, many in found.items() if name in file_names} or found
        problems += [f"{file_names.get(name, name)} of the {role} ({many})" for name, many in named.items()]
    if not problems:
        return parsed
    more = f" and {len(problems) - 4} more tensors" if len(problems) > 4 else ""
    problem = f"not all weights are finite; NaN or infinite are: {', '.join(problems[:4])}{more}."
    if not allow_nonfinite:
        raise SourceError(
            f"{where}: {problem} A network with such weights makes no images and cannot be trained; take an earlier "
            f"checkpoint. To look at the rest of the file: regraft inspect {where} --allow-nonfinite (in Python: "
            "regraft.load(..., allow_nonfinite=True))"
        )
    note = f"{problem[0].upper()}{problem[1:]}"
    origin = dataclasses.replace(parsed.provenance, assumptions=(note, *parsed.provenance.assumptions))
    return dataclasses.replace(parsed, provenance=origin)


def load_adapter(path: str | pathlib.Path, sources: list[Source] | None = None) -> GAN:
    """Open an adapter or run folder as an adapted GAN.

    Args:
        path: the folder; or a MindGAN that the authors of Mind2Mind published, with its ALAE as source.
        sources: its sources, in order.  If left out, they are looked for at the paths in the run's settings, beside the adapter
            and among the bundled and public sources.

    Returns:
        The adapted GAN, on the CPU, frozen and in evaluation mode.

    Raises:
        AdapterError: if the adapter is damaged, or a source is not found or is not the one that the adapter was made from.
        SourceError: if a source cannot be read.
    """
    folder = pathlib.Path(path)
    if sources and _published.is_mindgan(folder):
        return _published.open_mindgan(folder, sources[0] if isinstance(sources[0], GAN) else load(sources[0]))
    if how_to_resume := unfinished(folder):
        raise AdapterError(how_to_resume)
    if not adapter.is_adapter(folder):
        raise AdapterError(f"{folder}: holds no {RunFolder(folder).adapter_config.name}, so it is no adapter or run folder")
    record = adapter.read_config(folder)
    if sources is None:
        if record["stored"] == "whole" and record["generator"] is not None:
            return adapter.load_adapter(folder, [])
        sources = list(_find_sources(folder, record))
    return adapter.load_adapter(folder, [s if isinstance(s, GAN) else load(s) for s in sources])


def lead_source(folder: pathlib.Path, sources: Sequence[Source] | None = None) -> GAN | None:
    """Open the source whose critic an adapter was trained and measured with; None if the adapter has no source.

    Args:
        folder: an adapter or run folder.
        sources: its sources, if they are not where it expects them.

    Raises:
        AdapterError: if a source is not found.
    """
    record = adapter.read_config(folder)
    references = sources or _find_sources(folder, record)
    return adapter.lead_of(record, [s if isinstance(s, GAN) else load(s) for s in references])


def _find_sources(folder: pathlib.Path, record: dict[str, Any]) -> list[str]:
    """Find an adapter's sources: as the run's settings name them, else beside the adapter, else by their own name.

    Raises:
        AdapterError: if a source is not found.
    """
    in_settings = list(_settings_of(folder).get("sources", []))
    references, public = [], catalogue.sources()
    for number, source in enumerate(record["sources"]):
        candidates = [str(in_settings[number])] if number < len(in_settings) else []
        candidates += [str(folder / str(source["name"])), str(source["name"])]
        reference = next((c for c in candidates if pathlib.Path(c).exists() or c in bundled() or c in public), None)
        if reference is None:
            raise AdapterError(
                f"{folder}: needs its source {source['name']}, generator digest {str(source['generator_digest'])[:16]}, which "
                f"is not at {' or '.join(candidates)}; name it with sources=[...] or --source"
            )
        references.append(reference)
    return references


def _innermost_kind(network: Network) -> str:
    """Return the kind of backbone inside a network's composites."""
    kind, config = network.description.kind, network.description.config
    while kind in COMPOSITES:
        outer = config["parts"][config["lead"]] if kind == "mixed" else config
        inner = outer["autoencoder" if kind == "decoded" else "source"]
        kind, config = inner["kind"], inner["config"]
    return kind


def _looks_like(probe: Probe) -> str:
    """Describe a file or folder that no format reads."""
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
