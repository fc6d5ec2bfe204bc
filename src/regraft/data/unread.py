"""Files that hold no images that can be read: what they are, by their content, and what to do instead."""

import pathlib
import re
import zipfile

from regraft.core.names import printable
from regraft.data import kinds

_UNPACK = "unpack it and name the folder, or pack the images as .zip or .tar"
_FILM = "a film; write its frames as pictures into a folder, as ffmpeg -i FILM -vf fps=1 frames/%05d.png does, and name that"
_RECORDS = "save the images as files, .npz or .tar, with the library that wrote it, and name that"
_DOCUMENT = "save its pictures as files into a folder, and name that"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"7z\xbc\xaf\x27\x1c", f"a .7z archive; {_UNPACK}"),
    (rb"Rar!\x1a\x07", f"a .rar archive; {_UNPACK}"),
    (rb"\x28\xb5\x2f\xfd", f"packed by zstd; {_UNPACK}"),
    (rb"\x04\x22\x4d\x18", f"packed by lz4; {_UNPACK}"),
    (rb"\x1f\x9d", f"packed by compress; {_UNPACK}"),
    (rb"\x1f\x8b\x08", f"packed by gzip, and no tar archive or idx file is inside; {_UNPACK}"),
    (rb"BZh", f"packed by bzip2, and no tar archive is inside; {_UNPACK}"),
    (rb"\xfd7zXZ\0", f"packed by xz, and no tar archive is inside; {_UNPACK}"),
    (rb"MSCF", f"a .cab archive; {_UNPACK}"),
    (rb"!<arch>", f"an .ar archive; {_UNPACK}"),
    (rb"%PDF|\s*%PDF", f"a PDF document; {_DOCUMENT}, as pdfimages -all FILE.pdf pictures/x does"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"a document of an older Office; {_DOCUMENT}"),
    (rb"\{\\rtf", f"a text document; {_DOCUMENT}"),
    (rb"RIFF.{4}AVI |\x1a\x45\xdf\xa3|FLV\x01|\x30\x26\xb2\x75|OggS|\0\0\x01[\xba\xb3]|\x47.{187}\x47", _FILM),
    (rb"RIFF.{4}WAVE|ID3|fLaC|\xff[\xfb\xf3\xf2]", "a sound file, and no images"),
    (rb"SQLite format 3\0", f"an SQLite data base; {_RECORDS}"),
    (rb"MATLAB 5\.0", "a MATLAB file; save its images in Python: scipy.io.loadmat reads it, numpy.savez writes an .npz"),
    (rb"\x0a\x23\xd7\xce", f"an MXNet record file; {_RECORDS}"),
    (rb"\x80[\x02-\x05].*(torch_utils|dnnlib|tfutil)", "a checkpoint of NVlabs and no images; give it as the source instead"),
    (rb"\x80[\x02-\x05].", "a Python pickle; only the batches of CIFAR are read, and no code of a file is run. Save .npz"),
    (rb"PK\x03\x04|PK\x05\x06", f"a damaged or cut .zip; get it again, or {_UNPACK}"),
    (rb"(?i)\s*<(!doctype html|html)", "a web page, so the download did not bring the file; get it again"),
    (rb"version https://git-lfs", "a placeholder of Git LFS; run git lfs pull to get the file itself"),
    (rb"<\?xml|\s*<svg", "an XML or SVG file; convert drawings to PNG first"),
    (rb".{128}DICM", "a single DICOM picture; convert such pictures to PNG, 16 bits are read, and name their folder"),
    (rb"FITS|SIMPLE  =", "a FITS file; save its images as .npy"),
    (rb"\x08.{1,3}\x12.*pytorch|\x08\x04\x12", "an ONNX network and no images; give it as a source or extractor"),
)
"""Regular expressions for the first bytes, and what a file is."""

_OFFICE = ("[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF", "AndroidManifest.xml")
"""Members by which a zip archive is a document or a program."""

_SUFFIXES: dict[str, str] = {
    ".tfrecord": f"a TFRecord file of TensorFlow; {_RECORDS}",
    ".tfrecords": f"a TFRecord file of TensorFlow; {_RECORDS}",
    ".rec": f"an MXNet record file; {_RECORDS}",
    ".beton": f"an FFCV file; {_RECORDS}",
    ".mdb": "a data base that is not LMDB's, or damaged",
    ".ckpt": "a checkpoint, the weights of networks, and no images; give it as the source instead",
    ".onnx": "an ONNX network and no images; give it as a source or extractor",
    **dict.fromkeys((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"), _FILM),
}
_TEXT = re.compile(rb"[\t\n\r\f\x20-\x7e\x80-\xff]+")


def describe(path: pathlib.Path, head: bytes) -> str | None:
    """Return what a file is that no container reads, and what to do; None if it is unknown.

    Args:
        path: the file.
        head: its first bytes.
    """
    if not head:
        return "an empty file; get it again"
    if head[4:8] == b"ftyp" and kinds.kind_of(path.name, head) is None:
        return _FILM
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES or re.search(r"\.tfrecords?[-.]", path.name.lower()):
        return _SUFFIXES.get(suffix, _SUFFIXES[".tfrecord"])
    if is_document(path, head):
        return f"a document or program that is packed as .zip; {_DOCUMENT}"
    kind = kinds.kind_of(path.name, head)
    if kind is not None:
        way_out = kinds.missing_plugin(kind)
        advice = f"{way_out}; then name" if way_out else "name"
        return f"a single {kind} picture, and images are wanted in numbers; {advice} the folder that it lies in"
    if suffix in kinds.RAW:
        return "a single camera raw picture; convert such pictures to PNG or JPEG, and name their folder"
    for signature, what in _SIGNATURES:
        if re.match(signature, head, re.DOTALL):
            return what
    if _is_tfrecord(head, path):
        return _SUFFIXES[".tfrecord"]
    if _TEXT.fullmatch(head):
        return "a text file, and no images; name the folder or archive that holds them"
    return None


def is_document(path: pathlib.Path, head: bytes) -> bool:
    """Return whether a zip archive is a document or a program, whose pictures are its decoration."""
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in _OFFICE for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        return False


def _is_tfrecord(head: bytes, path: pathlib.Path) -> bool:
    """Return whether a file begins with a record's length and a tf.train.Example, which is a message of features."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 13 and 0 < length <= path.stat().st_size and head[12] == 0x0A


def refusal(path: pathlib.Path, head: bytes, known: str) -> str:
    """Return the whole error for a file that no container reads.

    Args:
        path: the file.
        head: its first bytes.
        known: the kinds that are read.
    """
    what = describe(path, head)
    return f"{printable(str(path))}: {what or f'of no kind that regraft knows. Images are read from a folder, {known}'}"
