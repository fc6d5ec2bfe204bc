"""Files of codes: damage is named, and files of the codes alone are read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from regraft.core.errors import DataError
from regraft.data import codes
from regraft.verbs import encode
from support.toys import toy_gan


class TestFile:
    def test_damage_is_named(self, photos, tmp_path):
        source = toy_gan(autoencoder=True)
        out, damaged = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
        encode.encode(source, photos, out)
        tensors = load_file(out)
        record = json.loads(tensors["record"].numpy().tobytes())
        for change, message in (
            ({"names": ["a"]}, "with 1 names"),
            ({"digest": "0"}, "not those that"),
            ({"format_version": 9}, "format version 9"),
            ({"classes": None}, "TypeError"),
        ):
            text = torch.tensor(list(json.dumps(record | change).encode()), dtype=torch.uint8)
            save_file(tensors | {"record": text}, damaged, {"format": codes.FORMAT})
            with pytest.raises(DataError, match=f"{message}.*encode the images again"):
                codes.read(damaged)
        out.write_bytes(out.read_bytes()[:-8])
        assert not codes.is_codes(out)

    def test_files_of_codes_alone_are_read_with_the_json_beside_them(self, photos, tmp_path):
        source = toy_gan(autoencoder=True)
        out = tmp_path / "c.safetensors"
        made = encode.encode(source, photos, out)
        tensors = load_file(out)
        del tensors["record"]
        save_file(tensors, out, {"format": codes.FORMAT})
        assert codes.read(out).names == made.codes.names
        assert encode.encode(source, photos, out).computed == 0
        (tmp_path / "c.json").unlink()
        with pytest.raises(DataError, match=r"c\.json.*remove it and encode the images again"):
            codes.read(out)
