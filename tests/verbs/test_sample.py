"""Sampling from runs and sources: files, grids, truncation, walks between latents, and classes."""

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from regraft.core.errors import ConfigError
from regraft.core.gan import Provenance
from regraft.core.jobs import SampleJob
from regraft.data import pictures
from regraft.verbs import sample
from regraft.verbs.sample import classes_for
from support.pictures import save_arrays
from support.toys import toy_gan


class TestClasses:
    def test_folders_hold_equal_numbers_of_each_class(self, labelled_run, tmp_path):
        images = regraft.sample(labelled_run.folder, tmp_path / "out", n=6, seed=3)
        found = {p.name: sorted(int(f.stem[-6:]) for f in p.glob("seed3-*.png")) for p in (tmp_path / "out").iterdir()}
        assert found == {"bars": [0, 2, 4], "blobs": [1, 3, 5]}
        assert torch.equal(images, labelled_run.gan.sample(6, 3, y=torch.arange(6) % 2))

    def test_an_image_is_the_same_however_many_are_asked_for(self, labelled_run):
        assert torch.equal(regraft.sample(labelled_run.gan, n=5, first=1), regraft.sample(labelled_run.gan, n=6)[1:])

    @pytest.mark.parametrize("asked", [{"class_name": "blobs"}, {"class_name": "1"}, {"label": 1}])
    def test_one_class(self, labelled_run, asked):
        assert torch.equal(
            regraft.sample(labelled_run.gan, n=3, **asked), labelled_run.gan.sample(3, 0, y=torch.ones(3, dtype=torch.long))
        )

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"class_name": "blob"}, "no class called blob; did you mean blobs"),
            ({"class_name": "2"}, "--class 2: this generator has classes 0 to 1"),
            ({"label": 2}, "--label 2: this generator has classes 0 to 1"),
            ({"label": 1, "class_name": "bars"}, "give one of them"),
        ],
    )
    def test_unknown_classes_are_named(self, labelled_run, asked, message):
        with pytest.raises(ConfigError, match=message):
            regraft.sample(labelled_run.gan, n=2, **asked)
        with pytest.raises(ConfigError, match="has no classes"):
            regraft.sample(toy_gan(), n=2, class_name="bars")

    def test_names_that_are_numbers_are_names(self):
        gan = toy_gan(n_classes=2)
        for names, asked, label in ((("3", "7"), "7", 1), (("1", "0"), "0", 1), (("3", "b"), "0", 0), ((), "0", 0)):
            gan.provenance = Provenance(classes=names)
            assert classes_for(gan, SampleJob(n=2, class_name=asked)).tolist() == [label] * 2
        gan.provenance = Provenance(classes=("3", "7"))
        for asked in ("0", "1", "33"):
            with pytest.raises(ConfigError, match=f"--class {asked}: .* there are: 3, 7; --label counts them from 0"):
                regraft.sample(gan, n=2, class_name=asked)
        assert classes_for(gan, SampleJob(n=2, label=0)).tolist() == [0, 0]

    def test_names_that_are_no_folder_names_become_numbers(self):
        gan = toy_gan(n_classes=3)
        for names in (("a/b", "c", "d"), ("..", "c", "d"), ("A", "a", "b"), ()):
            gan.provenance = Provenance(classes=names)
            assert sample.folder_names(gan) == ["0", "1", "2"]

    def test_grids_have_a_class_per_row(self, labelled_run, tmp_path):
        regraft.sample(labelled_run.gan, tmp_path / "grid.png", n=6)
        picture = Image.open(tmp_path / "grid.png")
        assert picture.width > picture.height
        ordered = labelled_run.gan.sample(6, 0, y=torch.arange(6) % 2)[[0, 2, 4, 1, 3, 5]]
        assert picture.tobytes() == pictures.grid(ordered, columns=3).tobytes()
        assert sample.overview(labelled_run.gan, 0).width > sample.overview(labelled_run.gan, 0).height

    def test_an_unconditional_generator_is_sampled_as_before(self):
        assert classes_for(toy_gan(), SampleJob(n=3)) is None

    def test_on_the_command_line(self, labelled_run, tmp_path, capsys):
        from regraft.cli.app import run as command

        assert command(["sample", str(labelled_run.folder), "--class", "bars", "--n", "2", "--out", str(tmp_path / "o")]) == 0
        assert sorted(p.name for p in (tmp_path / "o" / "bars").iterdir()) == ["seed0-000000.png", "seed0-000001.png"]
        assert command(["sample", str(labelled_run.folder), "--class", "cars", "--out", str(tmp_path / "p")]) == 2
        assert "did you mean bars" in capsys.readouterr().err


class TestSample:
    def test_folder_grid_and_truncation(self, run, tmp_path):
        images = regraft.sample(run.folder, tmp_path / "out", n=5, seed=3, first=2, grid=True)
        names = sorted(p.name for p in (tmp_path / "out").iterdir())
        assert names == ["grid.png"] + [f"seed3-{k:06d}.png" for k in range(2, 7)]
        read = np.asarray(opened(tmp_path / "out" / "seed3-000002.png"))
        assert np.abs(read.astype(int) - ((images[0, 0] + 1) * 127.5).numpy()).max() <= 0.51
        assert torch.equal(regraft.sample(run.folder, n=3, psi=0.0)[0], regraft.sample(run.folder, n=3, psi=0.0)[1])
        regraft.sample(run.folder, tmp_path / "g.png", n=4)
        assert opened(tmp_path / "g.png").width > 8
        for taken in ("out", "g.png"):
            with pytest.raises(ConfigError, match="nothing is overwritten"):
                regraft.sample(run.folder, tmp_path / taken, n=1)

    def test_interpolation(self, run, tmp_path):
        regraft.interpolate(run.folder, tmp_path / "walk.gif", keys=3, frames=4)
        with Image.open(tmp_path / "walk.gif") as gif:
            assert gif.n_frames == 12
        regraft.interpolate(run.folder, tmp_path / "strip.png", keys=2, frames=4)
        assert opened(tmp_path / "strip.png").width > 5 * 8
        with pytest.raises(ConfigError, match=r"written as \.gif or \.png"):
            regraft.interpolate(run.folder, tmp_path / "x.mp4")

    def test_aspect_is_brought_back(self, source_folder, tmp_path):
        save_arrays(tmp_path / "wide", np.random.default_rng(0).integers(0, 256, (8, 8, 16), dtype=np.uint8))
        for fit, size in (("stretch", (16, 8)), ("crop", (8, 8))):
            run = regraft.adapt(tmp_path / "wide", source_folder, method="untouched", out=tmp_path / fit, fit=fit)
            regraft.sample(run.folder, tmp_path / f"{fit}-out", n=1)
            image = opened(tmp_path / f"{fit}-out" / "seed0-000000.png")
            assert image.width / image.height == size[0] / size[1]


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image
