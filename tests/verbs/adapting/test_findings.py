"""What is odd about target images: told by ``check``, noted by ``adapt``."""

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from regraft.core.errors import DataError
from regraft.core.jobs import AdaptJob
from regraft.data import rules
from regraft.verbs.adapting.findings import blank, odd_sizes
from regraft.verbs.adapting.prepare import prepare
from support.pictures import save_arrays, save_images
from support.toys import strokes, toy_gan


def _notes(folder, **settings):
    return "\n".join(prepare(AdaptJob(images=str(folder), method="transfergan"), [toy_gan(size=32)], **settings).notes)


def test_what_check_finds_is_noted_by_a_run(tmp_path):
    folder = tmp_path / "photos"
    save_images(folder, strokes(40, 0, 32))
    Image.open(folder / "003.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "twin.jpg", quality=95)
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(folder / "blank.png")
    Image.open(folder / "004.png").resize((8, 8)).save(folder / "tiny.png")
    Image.open(folder / "005.png").resize((128, 32)).save(folder / "wide.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / "noise.png")
    notes = _notes(folder)
    assert "1 of 45 images are blank, which is learned too: blank.png" in notes
    assert "1 of 45 images are much smaller than the others: tiny.png 8x8" in notes
    assert "1 of 45 images are of a very different shape: wide.png 128x32" in notes
    assert "unlike all others, look at them: noise.png" in notes
    assert "images show what another one shows" in notes
    facts = regraft.check(folder)
    assert "blank.png: blank" in facts["odd"]
    assert facts["outliers"][0] == "noise.png"


def test_a_clean_set_has_no_such_notes(tmp_path):
    save_images(tmp_path / "photos", strokes(40, 0, 32))
    notes = _notes(tmp_path / "photos")
    assert not any(word in notes for word in ("blank", "unlike", "smaller", "shape", "another one shows"))


@pytest.mark.parametrize("colours", [(0,) * 20, (255,) * 20, range(0, 200, 10)], ids=["black", "white", "greys"])
def test_blank_targets_are_refused(tmp_path, colours):
    save_arrays(tmp_path / "photos", [np.full((32, 32), colour, np.uint8) for colour in colours])
    with pytest.raises(DataError, match=r"photos: 20 of 20 images are blank, each of one colour \(000.png, 001.png"):
        _notes(tmp_path / "photos")
    with pytest.raises(DataError, match="blank"):
        regraft.adapt(np.stack([np.full((32, 32, 3), (200, 0, colour), np.uint8) for colour in colours]), toy_gan(size=32))
    # Runs that began before this rule go on.
    assert _notes(tmp_path / "photos", version=rules.FIRST)


def test_images_that_are_all_the_same_are_refused(tmp_path):
    picture = strokes(1, 0, 32)
    save_images(tmp_path / "photos", picture.expand(20, -1, -1, -1))
    with pytest.raises(DataError, match="all 20 images show the same picture"):
        _notes(tmp_path / "photos")
    with pytest.raises(DataError, match="all 20 images show the same picture"):
        regraft.adapt(picture.expand(20, -1, -1, -1), toy_gan(size=32))


def test_every_colour_can_be_blank():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    half = red.clone()
    half[..., 16:] = 0
    assert blank(torch.cat([red, half])).tolist() == [True, False]


def test_sizes_that_differ_a_little_are_not_odd():
    assert odd_sizes([(100, 80), (90, 90), (110, 70)]) == {}
