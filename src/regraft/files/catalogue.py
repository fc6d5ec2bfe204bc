"""The catalogue of public pretrained GANs: names, addresses and licences; their files are downloaded when first asked for.

``assets/catalogue.yaml`` is part of the package; files named by ``REGRAFT_CATALOGUE`` (separated as in ``PATH``) add to it in
the same layout.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import Field

from regraft.core.config import Config, parse, read_yaml
from regraft.core.errors import SourceError
from regraft.files.download import Progress, Remote, cache_folder, fetch

PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._=-]*$"
Name = Annotated[str, Field(pattern=PLAIN_NAME, max_length=100)]


class SharedFields(Config):
    """Fields of a source that a group of sources may state for all of them."""

    family: Annotated[str | None, Field(description="Backbone of its networks.")] = None
    licence: Annotated[str | None, Field(description="Licence of the weights, as their authors state it.")] = None
    noncommercial: Annotated[bool | None, Field(description="Whether the licence forbids commercial use.")] = None
    page: Annotated[str | None, Field(description="Web page about it, from which it can be downloaded by hand.")] = None
    url: Annotated[str | None, Field(description="Address of its files; {file} stands for the file's name on the server.")] = (
        None
    )
    how: Annotated[str | None, Field(description="What to do if there is no url.")] = None


class Source(SharedFields):
    """One pretrained GAN."""

    name: Name
    dataset: str | None = None
    resolution: Annotated[int | None, Field(ge=1, le=4096, description="Side of its images.")] = None
    file: Annotated[str | None, Field(description="Name of its only file on the server.")] = None
    files: Annotated[dict[Name, str], Field(description="Its files, if it has several: name here to name on the server.")] = {}
    main: Annotated[str | None, Field(description="Which of several files to open; default: their folder.")] = None
    where: Annotated[str | None, Field(description="Folder of the page in which its files are.")] = None
    size_mb: Annotated[float | None, Field(gt=0, description="Size in MB, as stated.")] = None
    sha256: Annotated[
        str | None, Field(pattern="^[0-9a-f]{7,64}$", description="SHA-256 digest of its only file, or the beginning of it.")
    ] = None

    @property
    def names(self) -> dict[str, str]:
        """Names of its files: name here to name on the server."""
        return dict(self.files) if self.files else {str(self.file).rpartition("/")[2]: str(self.file)}

    @property
    def folder(self) -> pathlib.Path:
        """Folder of the cache for its files."""
        return cache_folder() / self.name

    @property
    def path(self) -> pathlib.Path:
        """What to open: its file, the main one of several, or their folder."""
        if self.main is not None:
            return self.folder / self.main
        return self.folder if self.files else self.folder / next(iter(self.names))

    @property
    def urls(self) -> tuple[str, ...]:
        """Addresses of its files; none if it has to be downloaded by hand."""
        return tuple(self.url.replace("{file}", remote) for remote in self.names.values()) if self.url else ()

    @property
    def cached(self) -> bool:
        """Whether all its files are in the cache."""
        return all((self.folder / local).is_file() for local in self.names)

    @property
    def by_hand(self) -> str:
        """How to get its files by hand."""
        place = f" (folder {self.where})" if self.where else ""
        advice = f" {self.how}" if self.how else ""
        files = " and ".join(self.names)
        return (
            f"Download {files} from {self.page}{place} by hand, then name it with --source FILE, or put it into {self.folder}."
            f"{advice}"
        )


class Group(SharedFields):
    """Sources that share fields."""

    sources: tuple[Source, ...]


class Catalogue(Config):
    """A file of the catalogue."""

    catalogue: Literal[1]
    groups: tuple[Group, ...]


def sources() -> dict[str, Source]:
    """All sources of the catalogue, by name; of two with the same name the later one counts.

    Raises:
        ConfigError: if a file of ``REGRAFT_CATALOGUE`` is no catalogue.
    """
    bundled = pathlib.Path(str(resources.files("regraft"))) / "assets" / "catalogue.yaml"
    others = [pathlib.Path(p) for p in os.environ.get("REGRAFT_CATALOGUE", "").split(os.pathsep) if p]
    listed: dict[str, Source] = {}
    for path in (bundled, *others):
        listed |= _read(path, path.stat().st_mtime_ns if path.is_file() else 0)
    return listed


@functools.lru_cache(maxsize=8)
def _read(path: pathlib.Path, modified_ns: int) -> dict[str, Source]:
    """Sources of one file, by name; read again if the file was modified."""
    catalogue = parse(Catalogue, read_yaml(path, "a catalogue"), str(path))
    listed = {}
    for group in catalogue.groups:
        shared = group.model_dump(exclude={"sources"}, exclude_none=True)
        for source in group.sources:
            whole = Source.model_validate(shared | source.model_dump(exclude_none=True))
            if whole.url and not (whole.file or whole.files):
                raise SourceError(f"{path}: {whole.name} has a url, and names no file that it leads to; add file or files")
            listed[whole.name] = whole
    return listed


def fetch_source(source: Source, on_event: Callable[[dict[str, Any]], None] | None = None) -> pathlib.Path:
    """Download the files of a source that are not in the cache, and check all of them.

    Args:
        source: the source.
        on_event: called with the progress of each download.

    Returns:
        What to open.

    Raises:
        SourceError: if its files have to be downloaded by hand (the message says how), or as
            :func:`regraft.files.download.fetch`.
    """
    if not source.url:
        if source.cached:
            return source.path
        raise SourceError(f"{source.name}: cannot be downloaded automatically. {source.by_hand}")
    for local, url in zip(source.names, source.urls, strict=True):
        remote = Remote(url, source.sha256 if not source.files else None, source.page)
        fetch(remote, source.folder / local, _progress(source.name, local, on_event))
    return source.path


def _progress(name: str, file: str, on_event: Callable[[dict[str, Any]], None] | None) -> Progress | None:
    """A function that turns a download's progress into events; None if nobody listens."""
    if on_event is None:
        return None
    emit = on_event

    def progress(have: int, total: int | None) -> None:
        emit({"event": "download", "source": name, "file": file, "bytes": have, "of": total})

    return progress


def record(source: Source) -> dict[str, Any]:
    """A source as plain data, as lists of sources show it."""
    return {
        "name": source.name,
        "path": str(source.path) if source.cached else None,
        "kind": "catalogue",
        "cached": source.cached,
        "family": source.family,
        "resolution": source.resolution,
        "dataset": source.dataset,
        "licence": source.licence,
        "noncommercial": bool(source.noncommercial),
        "size_mb": source.size_mb,
        "urls": list(source.urls),
        "page": source.page,
        "sha256": source.sha256,
        "how": None if source.url else source.by_hand,
    }
