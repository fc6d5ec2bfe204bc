"""Which files are images: by the endings that everybody uses, and by their first bytes where an ending does not tell."""

import importlib
import pathlib
import re

from PIL import Image

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
}
"""Endings that are believed; files with any other one are looked into."""

HEAD = 1024
"""Bytes of a file that are looked at."""

RAW = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw", ".3fr", ".iiq"}
"""Camera raw files; some begin as TIFF files do."""

_NO_PICTURES = {"PDF", "EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "PALM", "IPTC", "FITS"}
"""What Pillow has a name for and makes no picture of: documents, films, measurements, and what other programs must draw."""

_SIGNATURES = (
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF.{4}WEBP", "WebP"),
    (rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"P[1-7fF]\s+(#[^\n]*\s+)*\d+\s|Pf\s+\d|PF\s+\d", "PNM"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"8BPS\0\x01", "Photoshop"),
    (rb"qoif", "QOI"),
    (rb"DDS \x7c\0\0\0", "DDS"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
)

_PLUGINS = {
    "HEIC": (("pillow_heif", "register_heif_opener"), ".heic", "install pillow-heif (pip install 'regraft[heic]')"),
    "AVIF": (("pillow_avif", ""), ".avif", "install pillow-avif-plugin (pip install pillow-avif-plugin) or a newer Pillow"),
    "JPEG XL": (("pillow_jxl", ""), ".jxl", "install pillow-jxl-plugin (pip install pillow-jxl-plugin)"),
}
"""Kinds that need a plug-in of Pillow: its module and function that registers it, an ending, and what to do."""


def is_known(name: str) -> bool:
    """Return whether a name's ending is one that is believed."""
    return pathlib.PurePosixPath(name).suffix.lower() in SUFFIXES


def has_usual_ending(name: str) -> bool:
    """Return whether Pillow, with the plug-ins that are here, has a name's ending for a kind of picture."""
    Image.init()
    return is_known(name) or pathlib.PurePosixPath(name).suffix.lower() in Image.registered_extensions()


def kind_of(name: str, head: bytes) -> str | None:
    """Return the kind of image that a file is by its first bytes, or None if it is none.

    Args:
        name: of the file; its ending decides for kinds without a signature (such as ``.tga``).
        head: its first bytes, at most :data:`HEAD`.
    """
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix in RAW:
        return None
    for signature, kind in _SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return kind
    family = _family(head)
    if family is not None:
        return family
    Image.init()
    pillow_format = Image.registered_extensions().get(suffix)
    if pillow_format is None or pillow_format in _NO_PICTURES or pillow_format not in Image.OPEN or not head:
        return None
    accepts = Image.OPEN[pillow_format][1]
    return pillow_format if accepts is None or accepts(head[:16].ljust(16, b"\0")) is True else None


def formats() -> list[str]:
    """Return the names of the kinds that Pillow may open: those of pictures, which no other program has to draw.

    Pillow would hand a PostScript file to Ghostscript, which runs what stands in it, even if the file is called ``.jpg``.
    """
    Image.init()
    return [name for name in Image.ID if name not in _NO_PICTURES]


def missing_plugin(kind: str | None) -> str | None:
    """Return what to do before images of a kind can be read; None if they can be."""
    if kind not in _PLUGINS:
        return None
    (module, register), suffix, way_out = _PLUGINS[kind]
    Image.init()
    if Image.registered_extensions().get(suffix) in Image.OPEN and _pillow_reads(kind):
        return None
    try:
        plugin = importlib.import_module(module)
        if register:
            getattr(plugin, register)()
    except (ImportError, AttributeError):
        return f"{way_out}, or convert them to PNG or JPEG"
    return None


def _pillow_reads(kind: str) -> bool:
    """Return whether the Pillow that is here was built to read a kind for which it always has an ending."""
    from PIL import features

    return kind != "AVIF" or bool(features.check("avif"))


def _family(head: bytes) -> str | None:
    """Return HEIC or AVIF for a file of that family, by the brands in its first box."""
    if head[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[k : k + 4] for k in range(16, size - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"} else None
