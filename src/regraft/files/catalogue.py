"""The catalogue of public pretrained GANs: names, addresses and licences; files are fetched once, when first asked for.

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


class Shared(Config):
    """What a source or a group of them says."""

    family: Annotated[str | None, Field(description="The backbone that it is of.")] = None
    licence: Annotated[str | None, Field(description="As its authors state it.")] = None
    noncommercial: Annotated[bool | None, Field(description="Whether the licence forbids commercial use.")] = None
    page: Annotated[str | None, Field(description="Where to read about it, and to fetch it by hand.")] = None
    url: Annotated[str | None, Field(description="Where {file} is fetched from.")] = None
    how: Annotated[str | None, Field(description="What to do where no url fetches it.")] = None


class Source(Shared):
    """One pretrained GAN."""

    name: Name
    dataset: str | None = None
    resolution: Annotated[int | None, Field(ge=1, le=4096, description="Side of its images.")] = None
    file: Annotated[str | None, Field(description="Its one file, as the server calls it.")] = None
    files: Annotated[dict[Name, str], Field(description="Its several files: name here, name on the server.")] = {}
    main: Annotated[str | None, Field(description="Which of several to open; their folder if left out.")] = None
    where: Annotated[str | None, Field(description="Folder on the page.")] = None
    size_mb: Annotated[float | None, Field(gt=0, description="As stated.")] = None
    sha256: Annotated[
        str | None, Field(pattern="^[0-9a-f]{7,64}$", description="Digest of its one file, or the beginning of it.")
    ] = None

    @property
    def wanted(self) -> dict[str, str]:
        """Its files: name here, name on the server."""
        return dict(self.files) if self.files else {str(self.file).rpartition("/")[2]: str(self.file)}

    @property
    def folder(self) -> pathlib.Path:
        """Where its files are kept."""
        return cache_folder() / self.name

    @property
    def path(self) -> pathlib.Path:
        """What is opened: its file, the main one of several, or their folder."""
        if self.main is not None:
            return self.folder / self.main
        return self.folder if self.files else self.folder / next(iter(self.wanted))

    @property
    def urls(self) -> tuple[str, ...]:
        """Addresses of its files, none where it is fetched by hand."""
        return tuple(self.url.replace("{file}", remote) for remote in self.wanted.values()) if self.url else ()

    @property
    def cached(self) -> bool:
        """Whether all its files are here."""
        return all((self.folder / local).is_file() for local in self.wanted)

    @property
    def by_hand(self) -> str:
        """What to do to get it."""
        place = f" (folder {self.where})" if self.where else ""
        extra = f" {self.how}" if self.how else ""
        files = " and ".join(self.wanted)
        return (
            f"Download {files} from {self.page}{place} by hand, then name it with --source FILE, or put it into {self.folder}."
            f"{extra}"
        )


class Group(Shared):
    """Sources that have something in common."""

    sources: tuple[Source, ...]


class Catalogue(Config):
    """A file of the catalogue."""

    catalogue: Literal[1]
    groups: tuple[Group, ...]


def sources() -> dict[str, Source]:
    """All sources of the catalogue, by name.

    Raises:
        ConfigError: if a file of ``REGRAFT_CATALOGUE`` is no catalogue.
    """
    own = pathlib.Path(str(resources.files("regraft"))) / "assets" / "catalogue.yaml"
    others = [pathlib.Path(p) for p in os.environ.get("REGRAFT_CATALOGUE", "").split(os.pathsep) if p]
    found: dict[str, Source] = {}
    for path in (own, *others):
        found |= _read(path, path.stat().st_mtime_ns if path.is_file() else 0)
    return found


@functools.lru_cache(maxsize=8)
def _read(path: pathlib.Path, changed: int) -> dict[str, Source]:
    catalogue = parse(Catalogue, read_yaml(path, "a catalogue"), str(path))
    found = {}
    for group in catalogue.groups:
        shared = group.model_dump(exclude={"sources"}, exclude_none=True)
        for source in group.sources:
            whole = Source.model_validate(shared | source.model_dump(exclude_none=True))
            if whole.url and not (whole.file or whole.files):
                raise SourceError(f"{path}: {whole.name} has a url and no file")
            found[whole.name] = whole
    return found


def bring(source: Source, on_event: Callable[[dict[str, Any]], None] | None = None) -> pathlib.Path:
    """Fetch a source's files unless they are here, and check them.

    Args:
        source: which.
        on_event: told of progress.

    Returns:
        What to open.

    Raises:
        SourceError: if it must be fetched by hand, with what to do; or as :func:`regraft.download.fetch`.
    """
    if not source.url:
        if source.cached:
            return source.path
        raise SourceError(f"{source.name}: cannot be downloaded automatically. {source.by_hand}")
    for local, url in zip(source.wanted, source.urls, strict=True):
        remote = Remote(url, source.sha256 if not source.files else None, source.page)
        fetch(remote, source.folder / local, _telling(source.name, local, on_event))
    return source.path


def _telling(name: str, file: str, on_event: Callable[[dict[str, Any]], None] | None) -> Progress | None:
    if on_event is None:
        return None
    tell = on_event

    def progress(have: int, total: int | None) -> None:
        tell({"event": "download", "source": name, "file": file, "bytes": have, "of": total})

    return progress


def record(source: Source) -> dict[str, Any]:
    """A source as plain data, for lists."""
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
