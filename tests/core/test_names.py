"""Names in any encoding: one text per name, which everything can hold."""

import os
import unicodedata

import pytest

from regraft.core.config import parse
from regraft.core.gan import Provenance
from regraft.core.jobs import AdaptJob
from regraft.core.names import existing, printable, restored, storable

LATIN = os.fsdecode(b"caf\xe9.png")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b.png", "a b.png"),
        ("日本.png", "日本.png"),
        (LATIN, r"caf\xe9.png"),
        (unicodedata.normalize("NFD", "Äpfel"), "Äpfel"),
        ("a\nb\x1b[31m", r"a\x0ab\x1b[31m"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud800", r"\ud800"),
        (unicodedata.normalize("NFD", "Ä") + LATIN, r"Äcaf\xe9.png"),
    ],
)
def test_printable_names_can_be_written(name, text):
    assert printable(name) == text
    assert printable(text) == text
    text.encode("utf-8")


def test_paths_keep_their_normal_form():
    name = unicodedata.normalize("NFD", "Äpfel")
    assert storable(name) == name
    assert restored(storable(LATIN)) == LATIN
    assert storable(LATIN) == r"caf\xe9.png"


def test_the_path_that_is_there_counts(tmp_path):
    path = str(tmp_path / LATIN)
    assert existing(storable(path)) == storable(path)
    open(path, "wb").close()
    assert existing(storable(path)) == path
    (tmp_path / r"caf\xe9.png").touch()
    assert existing(storable(path)) == storable(path)


def test_settings_and_origins_hold_them():
    job = parse(AdaptJob, {"images": LATIN, "sources": [LATIN], "settings": {"a": [LATIN]}}, "test")
    assert job.images == job.sources[0] == job.settings["a"][0] == r"caf\xe9.png"
    job.model_dump_json()
    origin = Provenance(LATIN, files={LATIN: "0"}, classes=(LATIN, unicodedata.normalize("NFD", "Öl")))
    assert (origin.name, [*origin.files], origin.classes) == (r"caf\xe9.png", [r"caf\xe9.png"], (r"caf\xe9.png", "Öl"))
