"""Downloads from a server on this machine that cuts, forgets, changes and lies."""

import errno
import hashlib
import json
import multiprocessing
import subprocess
import sys
import threading

import pytest

from regraft.core.errors import SourceError
from regraft.files import download
from regraft.files.download import Remote, fetch
from support.web import serving

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(monkeypatch):
    """A server on this machine that has one file, and its address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "REGRAFT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as (site, address):
        site.files["/g.pth"] = CONTENT
        yield site, address


@pytest.fixture
def target(tmp_path):
    """Where the download goes."""
    return tmp_path / "cache" / "name" / "g.pth"


def get(address, target, sha256=None, **options):
    return fetch(Remote(f"{address}/g.pth", sha256, "https://example.org/page"), target, pause_seconds=0.01, **options)


def left(target):
    """What is there beside locks."""
    return sorted(p.name for p in target.parent.iterdir() if not p.name.endswith(".lock"))


def test_once_and_then_from_the_cache(web, target):
    site, address = web
    seen = []
    assert get(address, target, progress=lambda have, total: seen.append((have, total))) == target
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [have for have, _ in seen] == sorted(have for have, _ in seen)
    assert json.loads((target.parent / "downloads.json").read_text())["g.pth"]["sha256"] == DIGEST
    get(address, target)
    assert len(site.log) == 1
    assert left(target) == ["downloads.json", "g.pth"]


def test_cut_connections_are_resumed_where_they_broke(web, target):
    site, address = web
    site.cut_after = [100_000, 50_000, 1]
    get(address, target, DIGEST)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.log] == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_a_server_without_ranges_starts_again(web, target):
    site, address = web
    site.ranges = False
    site.cut_after = [100_000]
    get(address, target, DIGEST)
    assert target.read_bytes() == CONTENT


def test_a_later_call_goes_on(web, target):
    site, address = web
    site.cut_after = [200_000, 0, 0, 0, 0]
    with pytest.raises(SourceError, match=r"g\.pth: the download broke off 5 times .* 200000 bytes are kept"):
        get(address, target)
    assert left(target) == ["g.pth.part", "g.pth.part.json"]
    get(address, target)
    assert target.read_bytes() == CONTENT
    assert site.log[-1] == ("/g.pth", "bytes=200000-")


def test_a_file_that_changed_in_between_is_fetched_whole(web, target):
    site, address = web
    site.cut_after = [200_000, 0, 0, 0, 0]
    with pytest.raises(SourceError):
        get(address, target)
    site.files["/g.pth"] = other = CONTENT[::-1]
    site.etag = '"2"'
    get(address, target)
    assert target.read_bytes() == other


def test_a_mixed_file_is_noticed_by_its_digest(web, target):
    """A server without versions: two halves of two files."""
    site, address = web
    site.etag = None
    site.cut_after = [200_000, 0, 0, 0, 0]
    site.files["/g.pth"] = CONTENT[::-1]
    with pytest.raises(SourceError):
        get(address, target)
    site.files["/g.pth"] = CONTENT
    get(address, target, DIGEST)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_whole_already(web, target):
    _, address = web
    target.parent.mkdir(parents=True)
    target.with_name("g.pth.part").write_bytes(CONTENT)
    get(address, target, DIGEST)
    assert target.read_bytes() == CONTENT
    target.unlink()
    target.with_name("g.pth.part").write_bytes(CONTENT + b"more")
    get(address, target, DIGEST)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [403, 404, 410])
def test_refusals_are_final(web, target, code):
    site, address = web
    site.statuses = [code]
    with pytest.raises(SourceError, match=rf"g\.pth: HTTP {code} .*see https://example.org/page.*--source FILE"):
        get(address, target)
    assert len(site.log) == 1
    assert left(target) == []


def test_faults_of_the_server_are_tried_again(web, target):
    site, address = web
    site.statuses = [503, 429, 500]
    get(address, target, DIGEST)
    assert len(site.log) == 4


def test_nobody_listens(tmp_path, web, target):
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:9/x: the download broke off 5 times"):
        fetch(Remote("http://127.0.0.1:9/x"), target, pause_seconds=0.001)


def test_wrong_checksum_keeps_nothing(web, target):
    site, address = web
    with pytest.raises(SourceError, match=f"sha256 is {DIGEST}, and must be {'0' * 64}.*Nothing was kept"):
        get(address, target, "0" * 64)
    assert len(site.log) == 1
    assert left(target) == []


def test_the_beginning_of_a_digest_is_checked(web, target):
    _, address = web
    get(address, target, DIGEST[:8])
    with pytest.raises(SourceError, match="is stated: it was changed or damaged"):
        get(address, target, "00000000")


def test_a_changed_cache_is_noticed(web, target):
    _, address = web
    get(address, target)
    target.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(SourceError, match=f"{DIGEST} is what was first downloaded.*delete it to download it again"):
        get(address, target)
    target.unlink()
    get(address, target)
    assert target.read_bytes() == CONTENT


def test_a_second_download_must_be_the_first_one(web, target):
    site, address = web
    get(address, target)
    target.unlink()
    site.files["/g.pth"] = b"something else"
    with pytest.raises(SourceError, match="must be"):
        get(address, target)


def test_offline(web, target, monkeypatch):
    site, address = web
    monkeypatch.setenv("REGRAFT_OFFLINE", "1")
    with pytest.raises(SourceError, match="REGRAFT_OFFLINE forbids downloads"):
        get(address, target)
    assert not site.log
    monkeypatch.setenv("REGRAFT_OFFLINE", "0")
    get(address, target)
    monkeypatch.setenv("REGRAFT_OFFLINE", "1")
    assert get(address, target).read_bytes() == CONTENT


def test_too_large_and_no_space(web, target, monkeypatch):
    site, address = web
    with pytest.raises(SourceError, match=f"{len(CONTENT)} bytes, and at most 1000 are fetched"):
        get(address, target, most=1000)
    site.lengths = False
    with pytest.raises(SourceError, match="sends more than the 1000 bytes"):
        get(address, target, most=1000)
    site.lengths = True
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SourceError, match="no space left in .*REGRAFT_CACHE"):
        get(address, target)


def test_disk_full_while_writing(web, target, monkeypatch):
    _, address = web

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(SourceError, match="no space left in .* goes on from there"):
        patched.setattr(download.os, "fsync", full)
        get(address, target)
    assert not target.exists()
    get(address, target, DIGEST)


def test_web_pages_and_other_addresses_are_refused(web, target, tmp_path):
    site, address = web
    site.content_type = "text/html; charset=utf-8"
    with pytest.raises(SourceError, match="a web page, not a file"):
        get(address, target)
    for url in ("file:///etc/hostname", "ftp://127.0.0.1/x", f"{tmp_path}"):
        with pytest.raises(SourceError, match="only http and https"):
            fetch(Remote(url), target)
    site.content_type = "application/octet-stream"
    site.redirect["/away"] = "file:///etc/hostname"
    with pytest.raises(SourceError):
        fetch(Remote(f"{address}/away"), target, pause_seconds=0.001)
    site.redirect["/here"] = "/g.pth"
    assert fetch(Remote(f"{address}/here"), target).read_bytes() == CONTENT


def _child(address, target, results):
    fetch(Remote(f"{address}/g.pth"), target)
    results.put(hashlib.sha256(target.read_bytes()).hexdigest())


def test_two_processes_at_once_download_once(web, target):
    site, address = web
    site.gate = threading.Event()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [context.Process(target=_child, args=(address, target, results)) for _ in range(2)]
    for child in children:
        child.start()
    # The first waits for the server inside the lock; the second must wait for the lock.
    threading.Timer(3.0, site.gate.set).start()
    assert [results.get(timeout=60) for _ in children] == [DIGEST] * 2
    for child in children:
        child.join()
    assert len(site.log) == 1


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys, pathlib, time; from regraft.files.download import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path / "x.lock"], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    child.kill()
    child.wait()
    child.stdout.close()
    with download.locked(tmp_path / "x.lock"):
        pass


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "own"))
    assert download.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("REGRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert download.cache_folder() == tmp_path / "xdg" / "regraft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert download.cache_folder().is_absolute()
