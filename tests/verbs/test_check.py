"""Checking a set of photos: what is odd about them, and what that advises."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from regraft.core.errors import ConfigError, DataError
from regraft.data.duplicates import near_duplicates
from regraft.verbs.adapting.findings import outliers
from support.pictures import save_images
from support.toys import strokes


class TestCheck:
    def test_what_is_odd_is_named(self, tmp_path):
        folder = tmp_path / "photos"
        save_images(folder, strokes(30, 0, 32))
        (folder / "bad.png").write_bytes(b"no picture")
        Image.open(folder / "003.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "twin.jpg", quality=95)
        Image.fromarray(np.full((32, 32), 90, np.uint8)).save(folder / "blank.png")
        Image.new("RGB", (8, 8), "red").save(folder / "tiny.png")
        Image.new("RGB", (128, 32), "blue").save(folder / "wide.png")
        facts = regraft.check(folder, tmp_path / "sheet.png")
        assert facts["images"] == 34
        assert facts["unreadable"] == 1
        assert ["003.png", "twin.jpg"] in facts["near_duplicates"]
        assert "wide.png" in facts["outliers"]
        told = "\n".join(facts["odd"])
        for name in ("bad.png", "blank.png: blank", "tiny.png: much smaller", "wide.png: a very different shape"):
            assert name in told
        assert facts["modes"] == {"grey": 32, "colour": 2}
        advice = "\n".join(facts["advice"])
        assert all(word in advice for word in ("--fit", "--method", "--steps", "--flip", "near-duplicates", "held out"))
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width > 500
        json.dumps(facts)

    def test_a_clean_set_raises_nothing(self, tmp_path):
        save_images(tmp_path / "photos", strokes(40, 0, 32))
        facts = regraft.check(tmp_path / "photos")
        assert facts["near_duplicates"] == facts["outliers"] == facts["odd"] == []

    def test_all_twins(self):
        images = strokes(10, 0, 32)
        assert near_duplicates(torch.cat([images, images]).add(1).mul(127.5).byte()) == [(k, k + 10) for k in range(10)]
        assert outliers(images[:4]) == []

    def test_nothing_readable(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"x")
        with pytest.raises(DataError, match="none of its 1 images"):
            regraft.check(tmp_path)

    def test_nothing_is_overwritten(self, tmp_path, photos):
        (tmp_path / "sheet.png").write_bytes(b"")
        with pytest.raises(ConfigError, match="exists"):
            regraft.check(photos, tmp_path / "sheet.png")
