"""Which files are images: by endings that are believed, by content otherwise."""

import io

import numpy as np
import pytest
from PIL import Image

from regraft.data import kinds


def encoded(form, **how):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(buffer, form, **how)
    return buffer.getvalue()[: kinds.HEAD]


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        *(("PNG", "PNG"), ("JPEG", "JPEG"), ("GIF", "GIF"), ("BMP", "BMP"), ("TIFF", "TIFF"), ("WEBP", "WebP")),
        *(("PPM", "PNM"), ("JPEG2000", "JPEG 2000"), ("DDS", "DDS"), ("QOI", "QOI")),
    ],
)
@pytest.mark.parametrize("name", ["scan", "scan.part", "scan.jpg_large", "2020.05.01", "scan.txt"])
def test_content_tells_what_a_name_does_not(name, form, kind):
    if form == "QOI" and "QOI" not in Image.SAVE:
        pytest.skip("this Pillow writes no QOI")
    assert kinds.kind_of(name, encoded(form)) == kind


@pytest.mark.parametrize("form", ["TGA", "PCX", "SGI", "ICO"])
def test_rare_kinds_need_their_ending(form):
    assert kinds.kind_of(f"scan.{form.lower()}", encoded(form)) == form
    assert kinds.kind_of(f"scan.{form.lower()}", b"") is None


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("notes.txt", b"Python is a language\n"),
        ("notes", b"P1 is a call of Polish ships"),
        ("list.bin", b"BMW, Opel, Audi and all the others of them"),
        ("code.h", b"#define width 8\n"),
        ("paper.pdf", b"%PDF-1.5"),
        ("figure.eps", b"%!PS-Adobe-3.0 EPSF-3.0"),
        ("film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isom"),
        ("film.mov", b"\0\0\0\x14ftypqt  "),
        ("film.mpg", b"\0\0\1\xba"),
        ("run.fit", b"\x0e\x10\x2f\x08"),
        ("data.h5", b"\x89HDF\r\n\x1a\n"),
        ("shot.nef", b"MM\0*\0\0\0\x08"),
        ("shot.dng", b"II*\0\x08\0\0\0"),
        ("sheet.zip", b"PK\x03\x04"),
        ("empty", b""),
    ],
)
def test_other_files_are_none(name, head):
    assert kinds.kind_of(name, head) is None


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x24ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    ],
)
def test_kinds_that_need_a_plugin_are_known_by_their_brands(head, kind):
    assert kinds.kind_of("IMG_1", head + bytes(64)) == kind


def test_what_to_do_without_the_plugin(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(kinds.importlib, "import_module", missing)
    monkeypatch.setattr(Image, "registered_extensions", dict)
    assert "pip install 'regraft[heic]'" in kinds.missing_plugin("HEIC")
    assert "pillow-avif-plugin" in kinds.missing_plugin("AVIF")
    assert kinds.missing_plugin("PNG") is None


def test_a_plugin_that_is_there_is_used(monkeypatch):
    registered = []

    class Plugin:
        @staticmethod
        def register_heif_opener():
            registered.append(True)

    monkeypatch.setattr(kinds.importlib, "import_module", lambda name: Plugin)
    monkeypatch.setattr(Image, "registered_extensions", dict)
    assert kinds.missing_plugin("HEIC") is None
    assert registered == [True]
