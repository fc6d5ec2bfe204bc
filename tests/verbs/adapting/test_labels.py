"""Labels from end to end: which targets are taken for classes, and what a run keeps of them."""

import json

import pytest
import torch

import regraft
from regraft.core.errors import ConfigError
from regraft.core.gan import Provenance
from regraft.runs.training_images import training_images
from regraft.verbs.adapt import adapt_job
from regraft.verbs.adapting import choices, prepare
from support.toys import toy_gan, toy_images


class TestChoice:
    def test_class_folders_are_learned_and_it_is_said(self, labelled_run):
        assert labelled_run.gan.generator.n_classes == 2
        assert any("learned as 2 classes (bars, blobs)" in note for note in labelled_run.notes)

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


class TestKept:
    def test_names_come_back_with_the_adapter_and_its_conversion(self, labelled_run, source_folder, tmp_path):
        record = json.loads((labelled_run.folder / "adapter_config.json").read_text())
        assert record["data"]["classes"] == ["bars", "blobs"]
        assert "Classes: bars, blobs." in (labelled_run.folder / "README.md").read_text()
        loaded = regraft.load_adapter(labelled_run.folder, [source_folder])
        converted = regraft.load(regraft.convert(labelled_run.folder, tmp_path / "whole"))
        for gan in (loaded, converted):
            assert gan.provenance.classes == ("bars", "blobs")
            assert torch.equal(gan.sample(6, 0), labelled_run.gan.sample(6, 0))
            assert gan.critic.n_classes == 2

    def test_a_run_is_a_conditional_source_whose_classes_go_by_name(self, labelled_run, photos_by_class):
        (photos_by_class / "bars").rename(photos_by_class / "zebra bars")
        again = regraft.adapt(photos_by_class, labelled_run.folder, method="transfergan", steps=0, write=False)
        # "blobs" is class 1 of the source, and class 0 of this target; "bars" is gone.
        theirs, own = labelled_run.gan.generator.layers[0].norm.gain, again.gan.generator.layers[0].norm.gain
        assert torch.equal(own, torch.stack([theirs[1], theirs.mean(0)]))
        assert again.gan.provenance.classes == ("blobs", "zebra bars")

    def test_resume_finds_the_labels_again(self, labelled_run):
        again = regraft.adapt(resume=True, out=labelled_run.folder)
        assert torch.equal(again.gan.sample(4, 0), labelled_run.gan.sample(4, 0))


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


def test_methods_without_classes_are_not_offered_labels(photos_by_class, source_folder):
    import regraft

    with pytest.raises(ConfigError, match="minegan does not learn classes"):
        regraft.adapt(photos_by_class, source_folder, method="minegan", labels=True, write=False)
