"""Download files into a cache: each once, resumed where it broke off, and checked each time that it is used.

The cache is ``$REGRAFT_CACHE``, else the platform's folder for caches; ``REGRAFT_OFFLINE=1`` forbids every download.
"""

import contextlib
import dataclasses
import errno
import http.client
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any

from regraft.core.errors import DownloadError
from regraft.files.atomic import write_json
from regraft.files.digests import sha256

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and those of the whole file, None if the server does not say."""

MOST_BYTES = 16 << 30
SPARE_BYTES = 64 << 20
CHUNK = 1 << 18
TIMEOUT_SECONDS = 30.0
TRIES = 5
RECORD = "downloads.json"


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file on the web.

    Attributes:
        url: http or https.
        sha256: its digest or the beginning of it; None means that of the first download.
        page: web page about it, which errors name.
    """

    url: str
    sha256: str | None = None
    page: str | None = None


class _Transient(Exception):
    """A download failed in a way that may not happen again."""


def cache_folder() -> pathlib.Path:
    """Folder of all downloads."""
    if os.environ.get("REGRAFT_CACHE"):
        return pathlib.Path(os.environ["REGRAFT_CACHE"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "regraft"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return pathlib.Path(os.environ["LOCALAPPDATA"]) / "regraft" / "Cache"
    home = pathlib.Path.home()
    return home / "Library" / "Caches" / "regraft" if sys.platform == "darwin" else home / ".cache" / "regraft"


def offline() -> bool:
    """Whether downloads are forbidden."""
    return os.environ.get("REGRAFT_OFFLINE", "0").lower() not in ("", "0", "false", "no")


def fetch(
    remote: Remote,
    target: pathlib.Path,
    progress: Progress | None = None,
    *,
    most: int = MOST_BYTES,
    pause_seconds: float = 1.0,
) -> pathlib.Path:
    """Download a file into the cache, or check the one that is there.

    Args:
        remote: the file.
        target: its place; an unfinished download lies beside it as ``.part``, digests in ``downloads.json``.
        progress: called after every piece.
        most: bytes that the file may have.
        pause_seconds: pause before the second try; doubled at each further one.

    Returns:
        ``target``.

    Raises:
        DownloadError: naming the address, what happened and what to do.
    """
    if not _checked(remote, target):
        if offline():
            raise DownloadError(
                f"{remote.url}: not in the cache, and REGRAFT_OFFLINE forbids downloads; unset it, or put the file at {target}"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target.with_name(f"{target.name}.lock")):
                if not _checked(remote, target):  # another process may have been faster
                    _download(remote, target, progress, most, pause_seconds)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_space(remote, target) from None
            raise DownloadError(f"{target}: cannot be written ({error}); choose another folder with REGRAFT_CACHE") from None
    return target


def _checked(remote: Remote, target: pathlib.Path) -> bool:
    """Whether the file is there.

    Raises:
        DownloadError: if its digest is not the one that is stated or was first downloaded.
    """
    if not target.is_file():
        return False
    known = _records(target).get(target.name, {})
    expected = remote.sha256 or known.get("sha256")
    digest = sha256(target)
    if expected is not None and not digest.startswith(str(expected)):
        raise DownloadError(
            f"{target}: has sha256 {digest}, and {expected} is {'stated' if remote.sha256 else 'what was first downloaded'}: "
            "it was changed or damaged; delete it to download it again"
        )
    if known.get("sha256") != digest:  # put there by hand
        _remember(target, digest, remote.url)
    return True


def _download(remote: Remote, target: pathlib.Path, progress: Progress | None, most: int, pause_seconds: float) -> None:
    """Download a file in several tries, check its digest and move it to its place."""
    part = target.with_name(f"{target.name}.part")
    problem, wrong = "", 0
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause_seconds * 2 ** (attempt - 1))
        resumed = part.is_file()
        try:
            _stream(remote, target, part, progress, most)
        except _Transient as error:
            problem = str(error)
            continue
        digest = sha256(part)
        known = _records(target).get(target.name, {}).get("sha256")
        expected = remote.sha256 or known
        if expected is None or digest.startswith(str(expected)):
            _remember(target, digest, remote.url)
            os.replace(part, target)
            _note(part).unlink(missing_ok=True)
            return
        # A download made of two pieces may mix two versions of the file: once more, in one piece.
        _drop(part)
        wrong += 1
        if wrong > 1 or not resumed:
            raise DownloadError(
                f"{remote.url}: sha256 is {digest}, and must be {expected}: it is not the file that was meant, or it was "
                f"damaged on the way. Nothing was kept{_see(remote)}"
            )
    size = part.stat().st_size if part.is_file() else 0
    raise DownloadError(
        f"{remote.url}: the download broke off {TRIES} times ({problem}); {size} bytes are kept, and the same command goes "
        f"on from there{_see(remote)}"
    )


def _stream(remote: Remote, target: pathlib.Path, part: pathlib.Path, progress: Progress | None, most: int) -> None:
    """Append what is missing to the part file.

    Raises:
        _Transient: if another try may help.
        DownloadError: if it would not.
    """
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "regraft", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = _read_json(_note(part)).get("version")
        if version:
            headers["If-Range"] = str(version)
    with _open_url(remote, headers, part) as response:
        if response is None:  # the server says that nothing is missing, or that the part is no part of its file
            return
        start, total = _range(response, have)
        if "text/html" in response.headers.get("Content-Type", ""):
            raise DownloadError(f"{remote.url}: the server sends a web page, not a file{_see(remote)}")
        if (total or 0) > most:
            raise DownloadError(f"{remote.url}: {total} bytes, and at most {most} are fetched{_see(remote)}")
        if shutil.disk_usage(target.parent).free < (total or 0) - start + SPARE_BYTES:
            raise _no_space(remote, target)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if start == 0 and version and not version.startswith("W/"):
            write_json(_note(part), {"version": version})
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            have = _copy(remote, response, file, start, total, progress, most)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise _Transient(f"{have} of {total} bytes came")


def _copy(
    remote: Remote,
    response: http.client.HTTPResponse,
    file: IO[bytes],
    have: int,
    total: int | None,
    progress: Progress | None,
    most: int,
) -> int:
    """Write an answer to a file that holds ``have`` bytes already; returns how many it holds then."""
    while True:
        try:
            piece = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            file.flush()
            raise _Transient(f"{type(error).__name__}: {error}") from None
        if not piece:
            return have
        file.write(piece)
        have += len(piece)
        if have > (most if total is None else min(most, total)):
            raise DownloadError(f"{remote.url}: sends more than the {total or most} bytes that it may{_see(remote)}")
        if progress is not None:
            progress(have, total)


@contextlib.contextmanager
def _open_url(remote: Remote, headers: dict[str, str], part: pathlib.Path) -> Iterator[http.client.HTTPResponse | None]:
    """The server's answer; None if the part file is whole already."""
    if urllib.parse.urlsplit(remote.url).scheme not in ("http", "https"):
        raise DownloadError(f"{remote.url}: only http and https addresses are fetched")
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = _opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and "Range" in headers:
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                    yield None
                    return
                _drop(part)
                raise _Transient("the part that is here is longer than the file") from None
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _Transient(f"HTTP {error.code} {error.reason}") from None
            raise DownloadError(
                f"{remote.url}: HTTP {error.code} {error.reason}; it may have moved or need a login{_see(remote)}"
            ) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise _Transient(f"{type(error).__name__}: {getattr(error, 'reason', error)}") from None
    with response:
        yield response


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from https to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See :meth:`urllib.request.HTTPRedirectHandler.redirect_request`."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url}: redirects to {newurl}, which is not secure")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https addresses, and no others."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPSHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _range(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the file's size if it is known."""
    length = response.headers.get("Content-Length")
    if response.status != 206:
        return 0, int(length) if length and length.isdigit() else None
    content_range = response.headers.get("Content-Range", "")
    start, _, total = content_range.removeprefix("bytes ").partition("/")
    if start.partition("-")[0] != str(have):
        raise _Transient(f"asked for bytes from {have}, got {content_range or 'no Content-Range'}")
    return have, int(total) if total.isdigit() else have + int(length) if length and length.isdigit() else None


@contextlib.contextmanager
def locked(path: pathlib.Path, poll_seconds: float = 0.2) -> Iterator[None]:
    """Hold a lock file, waiting for it if need be; the system releases it when a process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        while not _lock(file):
            time.sleep(poll_seconds)
        yield


def _lock(file: IO[bytes]) -> bool:
    """Try to lock an open file; closing it unlocks it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True


def _records(target: pathlib.Path) -> dict[str, Any]:
    """Digests and addresses of the downloads in a file's folder, by name."""
    return _read_json(target.with_name(RECORD))


def _remember(target: pathlib.Path, digest: str, url: str) -> None:
    """Record a download's digest and address."""
    path = target.with_name(RECORD)
    with contextlib.suppress(OSError), locked(path.with_name(f"{RECORD}.lock")):  # a read-only cache can still be used
        write_json(path, _records(target) | {target.name: {"sha256": digest, "url": url}})


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object in a file; empty if there is none."""
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict):
            return data
    return {}


def _note(part: pathlib.Path) -> pathlib.Path:
    """The file beside an unfinished download that says which version of the file it is a part of."""
    return part.with_name(f"{part.name}.json")


def _drop(part: pathlib.Path) -> None:
    """Delete an unfinished download."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _no_space(remote: Remote, target: pathlib.Path) -> DownloadError:
    """The error of a full disk."""
    return DownloadError(
        f"{remote.url}: no space left in {target.parent}; free some, or name another folder with REGRAFT_CACHE. What was "
        "fetched is kept, and the same command goes on from there"
    )


def _see(remote: Remote) -> str:
    """Where an error sends its reader; empty if there is no page."""
    return f"; see {remote.page}, or download it by hand and name it with --source FILE" if remote.page else ""
