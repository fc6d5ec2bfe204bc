"""Every metric, extractor and format found on disk keeps its contract; others can be added from outside."""

import hashlib
import importlib
import json
import pathlib

import pytest
import safetensors.torch
import torch

import regraft
from regraft.core import discover
from regraft.core.errors import ConfigError
from regraft.extractors.base import Features
from regraft.extractors.mobilenet_v1 import WIDTHS
from regraft.formats.base import Probe
from regraft.methods.base import Method
from regraft.metrics.base import Comparison, Samples
from support.plugins import find_plugin
from support.toys import save_program, toy_gan, uniform_images


def samples(x):
    features = x.flatten(1)[:, :40].double()
    labels = (features[:, :5] + 0.2 * features[:, 5:10]).argmax(1)
    return Samples(x, features, (5 * features[:, :5]).softmax(1), labels)


def comparison(fake, real, training):
    return Comparison(*(samples(x) for x in (fake, real, training)), "test", "0" * 64, 3)


def write_mobilenet(path):
    """Random weights in the published names and shapes."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"conv1": (32, 3, 3, 3)}
    for i in range(1, len(WIDTHS)):
        shapes |= {f"conv_dw_{i}": (WIDTHS[i - 1], 1, 3, 3), f"conv_pw_{i}": (WIDTHS[i], WIDTHS[i - 1], 1, 1)}
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=rng) * (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}_bn.{part}"] = torch.rand(shape[0], generator=rng) * 0.2 + (
                0.9 if part in ("weight", "running_var") else 0
            )
    safetensors.torch.save_file(tensors, path)
    return path


class Imitation(torch.nn.Module):
    """What the Inception program promises: bytes of any size in, features or probabilities out."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 20, 3, 2)
        self.output = torch.nn.Linear(20, 7)

    def forward(self, img: torch.Tensor, return_features: bool = False):
        x = torch.relu(self.layer(img.float() / 128 - 1)).mean((2, 3))
        return x if return_features else torch.softmax(self.output(x), 1)


@pytest.mark.parametrize("name", discover.names("metrics"))
class TestEveryMetric:
    def test_scores_carry_their_protocol(self, name):
        metric = find_plugin("metrics", name)
        assert metric.summary
        scores = metric.compute(comparison(uniform_images(30, seed=0), uniform_images(25, seed=1), uniform_images(9, seed=2)))
        assert scores
        for score in scores:
            assert torch.isfinite(torch.tensor(score.value))
            assert score.better in ("lower", "higher", "none")
            assert (score.extractor == "pixels") == (score.extractor_sha256 is None)
            assert score.extractor in ("pixels", "test")
            assert score.n_real == 0 or 2 <= score.n_real <= 30
            assert score.interval is not None
            low, high = score.interval
            assert low <= score.value <= high
            assert "floor" in score.details or "real_value" in score.details
            json.dumps(score.to_dict())
            assert score.seed == 3
            assert set(score.to_dict()) >= {"name", "value", "n_real", "n_fake", "extractor", "seed", "better"}

    @pytest.mark.parametrize(("n_real", "n_fake"), [(4, 30), (5, 200), (7, 30), (8, 30), (30, 4), (30, 7)])
    def test_few_images_have_a_wide_interval_or_none(self, name, n_real, n_fake):
        """Sets that vary: a point would claim a certainty that so few images do not give."""
        for score in find_plugin("metrics", name).compute(
            comparison(uniform_images(n_fake, seed=1), uniform_images(n_real, seed=0), uniform_images(9, seed=2))
        ):
            if score.interval is not None:
                low, high = score.interval
                assert low < high, score.name
                assert low <= score.value <= high

    def test_same_seed_same_value_and_inputs_untouched(self, name):
        metric = find_plugin("metrics", name)
        given = comparison(uniform_images(30, seed=0), uniform_images(25, seed=1), uniform_images(9, seed=2))
        before = [s.images.clone() for s in (given.fake, given.real, given.training)]
        a, b = metric.compute(given), metric.compute(given)
        assert [s.value for s in a] == [s.value for s in b]
        for kept, now in zip(before, (given.fake, given.real, given.training)):
            assert torch.equal(kept, now.images)

    def test_a_better_set_scores_better(self, name):
        """Unseen images of the same kind against a collapsed, copied set."""
        metric = find_plugin("metrics", name)
        training = uniform_images(10, seed=2)
        good = {
            s.name: s for s in metric.compute(comparison(uniform_images(100, seed=0), uniform_images(100, seed=1), training))
        }
        bad = metric.compute(comparison(training[:1].expand(100, -1, -1, -1), uniform_images(100, seed=1), training))
        for score in bad:
            if score.name.startswith(("precision", "density", "class_accuracy")):
                continue  # a copy is of high quality; these do not ask for variety
            if score.better == "lower":
                assert score.value > good[score.name].value
            elif score.better == "higher":
                assert score.value < good[score.name].value


@pytest.mark.parametrize("name", discover.names("extractors"))
class TestEveryExtractor:
    def made(self, name, tmp_path, monkeypatch) -> Features:
        extractor = find_plugin("extractors", name)
        assert extractor.summary
        weights = None
        torch.manual_seed(0)
        if name == "inception":
            weights = tmp_path / "inception.pt"
            if not weights.exists():
                save_program(Imitation(), weights)
            monkeypatch.setattr("regraft.extractors.inception.SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())
        if name == "mobilenet_v1":
            weights = write_mobilenet(tmp_path / "mobilenet.safetensors")
        if name == "network":
            safetensors.torch.save_file({"c.weight": torch.randn(8, 3, 3, 3)}, tmp_path / "n.safetensors")
            weights = tmp_path / "card.yaml"
            weights.write_text("file: n.safetensors\nsize: 12\nlayers:\n- conv: c\n- relu\n")
        if name == "classifier":
            shapes = {"c1": (6, 1, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5)}
            tensors = {f"convnet.{k}.weight": torch.randn(s) * 0.1 for k, s in shapes.items()}
            tensors |= {f"convnet.{k}.bias": torch.zeros(s[0]) for k, s in shapes.items()}
            for k, s in {"f6": (84, 120), "f7": (10, 84)}.items():
                tensors |= {f"fc.{k}.weight": torch.randn(s) * 0.1, f"fc.{k}.bias": torch.zeros(s[0])}
            weights = tmp_path / "lenet.pth"
            torch.save(tensors, weights)
        return extractor.make(weights, toy_gan(size=16, channels=3))

    def test_features_are_rows_and_do_not_depend_on_the_batch(self, name, tmp_path, monkeypatch):
        features = self.made(name, tmp_path, monkeypatch)
        assert len(features.sha256) == 64
        x = uniform_images(9, seed=0)
        whole = features(x)
        assert whole.dim() == 2
        assert whole.shape[0] == 9
        assert whole.dtype == torch.float32
        assert torch.allclose(whole, features(x, batch=2), atol=1e-5)
        assert whole.std(0).max() > 0

    def test_twice_made_is_the_same(self, name, tmp_path, monkeypatch):
        a, b = self.made(name, tmp_path, monkeypatch), self.made(name, tmp_path, monkeypatch)
        assert a.sha256 == b.sha256
        assert torch.equal(a(uniform_images(3, seed=0)), b(uniform_images(3, seed=0)))


@pytest.mark.parametrize("name", discover.names("formats"))
class TestEveryFormat:
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"{}", b"a: 1\n", b"\x89PNG\r\n", b"\xff" * 64])
    @pytest.mark.parametrize("suffix", [".pth", ".yaml", ".safetensors", ".json", ".pkl"])
    def test_other_files_are_not_claimed_or_end_in_a_clear_error(self, name, tmp_path, content, suffix):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        form = find_plugin("formats", name)
        if form.matches(Probe(path)):
            with pytest.raises(regraft.RegraftError, match="x"):
                form.read(Probe(path))

    def test_an_empty_folder_is_not_claimed(self, name, tmp_path):
        assert not find_plugin("formats", name).matches(Probe(tmp_path))


@pytest.mark.parametrize("folder", ["methods", "backbones", "formats", "metrics", "extractors"])
def test_unknown_names_get_the_nearest_known_one(folder):
    known = discover.names(folder)[0]
    with pytest.raises(ConfigError, match=f"did you mean {known}"):
        find_plugin(folder, known + "x")


def test_other_packages_add_plugins_by_entry_point(monkeypatch, tmp_path):
    """A real distribution on the path, as pip would leave it."""
    (tmp_path / "other.py").write_text(
        "from regraft.metrics.base import Metric\n"
        "class Theirs(Metric):\n"
        "    summary = 'theirs'\n"
        "    def measure(self, comparison): return []\n"
        "PLUGIN = Theirs()\n"
    )
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[regraft.metrics]\ntheirs = other:PLUGIN\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert "theirs" in discover.names("metrics")
    assert regraft.list_metrics()["theirs"] == "theirs"
    with pytest.raises(ConfigError, match="theirs of regraft.metrics is a Theirs, and must be a Method"):
        discover.plugin("metrics", "theirs", Method)


def test_names_are_files():
    for folder in ("methods", "backbones", "formats", "metrics", "extractors"):
        root = pathlib.Path(regraft.__file__).parent / folder
        assert discover.names(folder) == sorted(
            p.stem for p in root.glob("*.py") if p.stem != "base" and not p.stem.startswith("_")
        )
