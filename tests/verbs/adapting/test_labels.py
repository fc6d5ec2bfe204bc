"""Labels from end to end: which targets are taken for classes, what a run keeps of them, and sampling by class."""

import json

import pytest
import torch
from PIL import Image

import regraft
from regraft.core.errors import ConfigError
from regraft.core.gan import Provenance
from regraft.core.jobs import SampleJob
from regraft.data import pictures
from regraft.data.split import _interleave_classes
from regraft.methods import _classes
from regraft.methods._classes import LabelledConfig
from regraft.runs.training_images import training_images
from regraft.verbs import sample
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import choices, prepare
from regraft.verbs.sample import classes_for
from support.toys import toy_gan, toy_images


@pytest.fixture
def run(photos_by_class, source_folder, tmp_path):
    return regraft.adapt(photos_by_class, source_folder, method="transfergan", out=tmp_path / "run", steps=4, batch=4)


class TestChoice:
    def test_class_folders_are_learned_and_it_is_said(self, run):
        assert run.gan.generator.n_classes == 2
        assert any("learned as 2 classes (bars, blobs)" in note for note in run.notes)

    def test_folders_stay_one_target_where_asked(self, photos_by_class, source_folder):
        made = regraft.adapt(photos_by_class, source_folder, method="transfergan", steps=2, batch=4, labels=False, write=False)
        assert made.gan.generator.n_classes == 0
        assert not any("class" in note for note in made.notes)

    def test_other_methods_say_why_not(self, photos_by_class, source_folder):
        made = regraft.adapt(
            photos_by_class, source_folder, method="minegan", mining_steps=2, finetuning_steps=0, batch=4, write=False
        )
        assert any("not learned as classes: minegan does not learn classes" in note for note in made.notes)
        assert made.gan.generator.n_classes == 0

    def test_a_network_that_takes_no_classes_says_so(self, photos_by_class):
        plain = torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
        toy = toy_gan()
        gan = regraft.GAN(plain, toy.critic, latent=toy.generator.latent)
        made = regraft.adapt(photos_by_class, gan, method="freezed", steps=2, batch=4, write=False)
        assert any("not learned as classes: a" in note and "cannot be given classes" in note for note in made.notes)
        with pytest.raises(ConfigError, match="--labels: a .* cannot be given classes"):
            regraft.adapt(photos_by_class, gan, method="freezed", labels=True, write=False)

    def test_few_images_of_a_class_are_no_class_unless_asked(self):
        names = ("a", "b", "c", "d", "e")
        chosen, note = choices.labels(None, names, [20, 20, 9, 20, 20], None)
        assert not chosen
        assert "a, b, c, d and 1 more" in note
        assert "class c has 9 images" in note
        assert choices.labels(True, names, [20, 20, 9, 20, 20], None) == (True, None)

    def test_wanted_and_impossible_is_an_error(self, photos, source_folder):
        with pytest.raises(ConfigError, match="class b has 0 images"):
            choices.labels(True, ("a", "b"), [20, 0], None)
        with pytest.raises(ConfigError, match="not in class folders"):
            regraft.adapt(photos, source_folder, method="transfergan", labels=True, write=False)
        assert choices.labels(False, ("a", "b"), [20, 20], None) == (False, None)
        assert choices.labels(None, (), [], None) == (False, None)

    def test_an_npz_gives_labels(self, source_folder, tmp_path):
        import numpy as np

        images = toy_images(n=40).pixels.permute(0, 2, 3, 1).numpy()
        np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(40) % 2 * 7)
        made = regraft.adapt(tmp_path / "x.npz", source_folder, method="freezed", steps=2, batch=4, write=False)
        assert made.gan.provenance.classes == ("0", "7")


def test_held_out_images_are_of_all_classes():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = _interleave_classes(torch.randperm(100, generator=torch.Generator().manual_seed(0)), labels)
    assert sorted(order.tolist()) == list(range(100))
    assert torch.bincount(labels[order[:10]]).tolist() == [6, 3, 1]


class TestKept:
    def test_names_come_back_with_the_adapter_and_its_conversion(self, run, source_folder, tmp_path):
        record = json.loads((run.folder / "adapter_config.json").read_text())
        assert record["data"]["classes"] == ["bars", "blobs"]
        assert "Classes: bars, blobs." in (run.folder / "README.md").read_text()
        loaded = regraft.load_adapter(run.folder, [source_folder])
        converted = regraft.load(regraft.convert(run.folder, tmp_path / "whole"))
        for gan in (loaded, converted):
            assert gan.provenance.classes == ("bars", "blobs")
            assert torch.equal(gan.sample(6, 0), run.gan.sample(6, 0))
            assert gan.critic.n_classes == 2

    def test_a_run_is_a_conditional_source_whose_classes_go_by_name(self, run, photos_by_class):
        (photos_by_class / "bars").rename(photos_by_class / "zebra bars")
        again = regraft.adapt(photos_by_class, run.folder, method="transfergan", steps=0, write=False)
        # "blobs" is class 1 of the source, and class 0 of this target; "bars" is gone.
        theirs, own = run.gan.generator.layers[0].norm.gain, again.gan.generator.layers[0].norm.gain
        assert torch.equal(own, torch.stack([theirs[1], theirs.mean(0)]))
        assert again.gan.provenance.classes == ("blobs", "zebra bars")

    def test_resume_finds_the_labels_again(self, run):
        again = regraft.adapt(resume=True, out=run.folder)
        assert torch.equal(again.gan.sample(4, 0), run.gan.sample(4, 0))


class TestSampling:
    def test_folders_hold_equal_numbers_of_each_class(self, run, tmp_path):
        images = regraft.sample(run.folder, tmp_path / "out", n=6, seed=3)
        found = {p.name: sorted(int(f.stem[-6:]) for f in p.glob("seed3-*.png")) for p in (tmp_path / "out").iterdir()}
        assert found == {"bars": [0, 2, 4], "blobs": [1, 3, 5]}
        assert torch.equal(images, run.gan.sample(6, 3, y=torch.arange(6) % 2))

    def test_an_image_is_the_same_however_many_are_asked_for(self, run):
        assert torch.equal(regraft.sample(run.gan, n=5, first=1), regraft.sample(run.gan, n=6)[1:])

    @pytest.mark.parametrize("asked", [{"class_name": "blobs"}, {"class_name": "1"}, {"label": 1}])
    def test_one_class(self, run, asked):
        assert torch.equal(regraft.sample(run.gan, n=3, **asked), run.gan.sample(3, 0, y=torch.ones(3, dtype=torch.long)))

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"class_name": "blob"}, "no class called blob; did you mean blobs"),
            ({"class_name": "2"}, "--class 2: this generator has classes 0 to 1"),
            ({"label": 2}, "--label 2: this generator has classes 0 to 1"),
            ({"label": 1, "class_name": "bars"}, "give one of them"),
        ],
    )
    def test_unknown_classes_are_named(self, run, asked, message):
        with pytest.raises(ConfigError, match=message):
            regraft.sample(run.gan, n=2, **asked)
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

    def test_grids_have_a_class_per_row(self, run, tmp_path):
        regraft.sample(run.gan, tmp_path / "grid.png", n=6)
        picture = Image.open(tmp_path / "grid.png")
        assert picture.width > picture.height
        ordered = run.gan.sample(6, 0, y=torch.arange(6) % 2)[[0, 2, 4, 1, 3, 5]]
        assert picture.tobytes() == pictures.grid(ordered, columns=3).tobytes()
        assert sample.overview(run.gan, 0).width > sample.overview(run.gan, 0).height

    def test_an_unconditional_generator_is_sampled_as_before(self):
        assert classes_for(toy_gan(), SampleJob(n=3)) is None

    def test_on_the_command_line(self, run, tmp_path, capsys):
        from regraft.cli.app import run as command

        assert command(["sample", str(run.folder), "--class", "bars", "--n", "2", "--out", str(tmp_path / "o")]) == 0
        assert sorted(p.name for p in (tmp_path / "o" / "bars").iterdir()) == ["seed0-000000.png", "seed0-000001.png"]
        assert command(["sample", str(run.folder), "--class", "cars", "--out", str(tmp_path / "p")]) == 2
        assert "did you mean bars" in capsys.readouterr().err


class TestOfTheSource:
    """Methods that learn no classes keep the source's, if that is wanted."""

    def source(self, names):
        gan = toy_gan(n_classes=3)
        gan.provenance = Provenance(name="signs", classes=names)
        return gan

    @pytest.mark.parametrize(
        ("method", "settings"),
        [("minegan", {"miner": {"classes": "keep"}}), ("bsa", {"scaling": {"classes": "keep"}}), ("untouched", {})],
    )
    def test_labels_are_the_sources_numbers_by_name(self, photos_by_class, method, settings, tmp_path):
        source = regraft.convert(self.source(("blobs", "stripes", "bars")), tmp_path / "source")
        steps = {"steps": 2} if method != "untouched" else {}
        made = regraft.adapt(
            photos_by_class, source, method=method, labels=True, out=tmp_path / "run", batch=4, **steps, **settings
        )
        assert made.gan.provenance.classes == ("blobs", "stripes", "bars")
        record = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
        assert record["data"]["classes"] == ["blobs", "stripes", "bars"]
        listed = regraft.open_images(photos_by_class)
        job = adapt_job(listed, [str(source)], method, None, None, {"labels": True, "held_out": 0} | steps | settings)
        train = prepare.prepare(job, None, listed).train
        names = [train.classes[label] for label in train.labels]
        assert [name.split("/")[0] for name in train.names] == names
        assert len(training_images(tmp_path / "run")) + made_held(record) == len(listed)

    @pytest.mark.parametrize("method", ["minegan", "bsa"])
    def test_dropped_classes_are_no_labels(self, photos_by_class, method):
        with pytest.raises(ConfigError, match=f"{method} does not learn classes; .*classes=keep has the source's"):
            regraft.adapt(
                photos_by_class, self.source(("blobs", "x", "bars")), method=method, labels=True, steps=2, write=False
            )

    def test_other_names_and_other_numbers_are_refused(self, photos_by_class):
        settings = {"method": "bsa", "labels": True, "steps": 2, "write": False, "scaling": {"classes": "keep"}}
        with pytest.raises(ConfigError, match="among which there is no bars; rename the folders after them: a, blobs, c"):
            regraft.adapt(photos_by_class, self.source(("a", "blobs", "c")), **settings)
        with pytest.raises(ConfigError, match="3 without names, and the images have 2"):
            regraft.adapt(photos_by_class, self.source(()), **settings)
        with pytest.raises(ConfigError, match="which has none"):
            regraft.adapt(photos_by_class, toy_gan(), **settings)

    def test_without_names_they_go_by_number_and_it_is_said(self, photos_by_class):
        gan = toy_gan(n_classes=2)
        made = regraft.adapt(
            photos_by_class, gan, method="bsa", labels=True, steps=2, batch=4, write=False, scaling={"classes": "keep"}
        )
        assert any("classes go by number (bars, blobs)" in note for note in made.notes)


def made_held(record):
    return record["data"]["held_out"]


def test_new_class_tables_learn_faster_and_nothing_else():
    """Neither the inputs that a one-hot class adds, nor a layer that happens to be as wide as there are classes."""
    config = LabelledConfig()
    plain, n = toy_gan(size=16, width=4, latent_dim=6), 4  # the last block has four channels
    for how, wanted in (("norm", {"gain", "shift"}), ("concat", {"classes"})):
        made = _classes.conditioned(plain.generator, n, how)
        found = _classes.groups(made, plain.generator, 1.0, config, n)
        fast = {id(p) for p in found[1][0]} if len(found) > 1 else set()
        assert {k.rpartition(".")[2] for k, p in made.named_parameters() if id(p) in fast} == wanted
