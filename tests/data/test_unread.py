"""Files that are not read are named by their content, with what to do instead."""

import gzip
import io
import pickle
import zipfile

import pytest
from PIL import Image

from regraft.core.errors import DataError
from regraft.data.opening import open_images


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def office():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("ppt/media/image1.png", png())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(200), r"a \.7z archive; unpack it"),
        (b"Rar!\x1a\x07\0" + bytes(200), r"a \.rar archive; unpack it"),
        (b"\x28\xb5\x2f\xfd" + bytes(200), "packed by zstd; unpack it"),
        (gzip.compress(b"hello" * 100, mtime=0), "packed by gzip, and no tar archive"),
        (b"\0\0\0 ftypisom" + bytes(200), "a film; .*ffmpeg"),
        (b"\0\0\0 ftypqt  " + bytes(200), "a film; .*ffmpeg"),
        (b"RIFF\1\2\3\4AVI LIST" + bytes(200), "a film; .*ffmpeg"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), "a film; .*ffmpeg"),
        (b"%PDF-1.7\n" + bytes(200), "a PDF document; .*pdfimages"),
        (office(), "a document or program that is packed as .zip; save its pictures"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(200), "a document of an older Office"),
        (b"\x20\0\0\0\0\0\0\0abcd\n\x1e" + bytes(200), "a TFRecord file of TensorFlow"),
        (b"MATLAB 5.0 MAT-file" + bytes(200), "a MATLAB file; .*scipy"),
        (b"SQLite format 3\0" + bytes(200), "an SQLite data base"),
        (b"<!DOCTYPE html><html>Log in</html>", "a web page, so the download did not bring the file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a placeholder of Git LFS"),
        (b"a,b\n1,2\n", "a text file, and no images"),
        (png(), "a single PNG picture, and images are wanted in numbers; name the folder"),
        (pickle.dumps({"a": 1}, 4), "a Python pickle; .*no code of a file is run"),
        (b"\x80\x02ctorch_utils.persistence\n" + bytes(200), "a checkpoint of NVlabs and no images"),
        (b"", "an empty file; get it again"),
        (b"\x17\x00\x99" * 300, r"of no kind that regraft knows\. Images are read from a folder, .*\.zip"),
    ],
)
def test_what_a_file_is_and_what_to_do(content, words, tmp_path):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.bin: {words}"):
        open_images(tmp_path / "x.bin")


@pytest.mark.parametrize("name", ["train.tfrecord", "x.tfrecords", "train.tfrecord-00000-of-00010"])
def test_names_tell_where_content_does_not(name, tmp_path):
    (tmp_path / name).write_bytes(b"\xf3\x01\0\0\0\0\0\0\x99" * 30)
    with pytest.raises(DataError, match=rf"{name}: a TFRecord file"):
        open_images(tmp_path / name)
