"""Extractors read from files: what they compute, what they refuse, what they keep; and the classifier that regraft trains."""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch.nn import functional as F

import regraft
from regraft.cli.app import run as cli
from regraft.core.errors import ConfigError, DataError, MissingCapability, SourceError
from regraft.evaluation.compare import compare, extractor
from regraft.extractors import _cache, inception
from regraft.extractors.inception import as_bytes
from regraft.files.download import cache_folder
from regraft.verbs.train_classifier import train_classifier
from support.toys import save_program, toy_gan


def images(n, size=16, channels=3, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Program(torch.nn.Module):
    """Counts nothing, keeps what it was given visible: the mean of each colour of its bytes."""

    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(3, 4)

    def forward(self, img: torch.Tensor, return_features: bool = False):
        return img.float().mean((2, 3)) if return_features else self.output(img.float().mean((2, 3)))


@pytest.fixture
def program(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "program.pt"
    save_program(Program(), path)
    return path


class TestInception:
    def test_another_file_is_not_run(self, program):
        with pytest.raises(SourceError, match="is not the Inception file that FID is defined by"):
            extractor(f"inception:{program}")

    def test_it_is_given_bytes_and_grey_three_times(self, program, monkeypatch):
        monkeypatch.setattr(inception, "SHA256", hashlib.sha256(program.read_bytes()).hexdigest())
        features = extractor(f"inception:{program}")
        grey = torch.tensor([-1.0, -0.5, 0.0, 1.0]).view(4, 1, 1, 1).expand(4, 1, 5, 5)
        assert features(grey)[:, 0].tolist() == [0, 64, 128, 255]
        assert as_bytes(grey).shape == (4, 3, 5, 5)
        found, probabilities = features.with_probabilities(grey)
        weight = dict(_cache.scripted(program).named_parameters())["output.weight"]
        assert torch.allclose(probabilities.float(), (found @ weight.T).softmax(1), atol=1e-6)
        names = {s.name for s in compare(images(20), images(20, seed=1), None, features)}
        assert {"FID", "KID", "IS"} <= names

    def test_without_file_the_way_to_it_is_said(self, monkeypatch):
        monkeypatch.setenv("REGRAFT_OFFLINE", "1")
        with pytest.raises(ConfigError, match=r"download https://\S+inception-2015-12-05.pt and put it at"):
            extractor("inception")

    def test_a_file_in_the_cache_is_used(self, program, monkeypatch):
        monkeypatch.setattr(inception, "SHA256", hashlib.sha256(program.read_bytes()).hexdigest())
        place = cache_folder() / "extractors" / "inception-2015-12-05.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(program.read_bytes())
        try:
            assert extractor("inception").name == "inception"
        finally:
            place.unlink()


class TestNetwork:
    def card(self, tmp_path, text):
        path = tmp_path / "card.yaml"
        path.write_text(text)
        return f"network:{path}"

    def test_layers_of_a_card_are_what_torch_computes(self, tmp_path):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3, padding=1),
            torch.nn.BatchNorm2d(6),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(6 * 16, 5),
        ).eval()
        net[1].running_mean.normal_()
        safetensors.torch.save_file(
            {k: v for k, v in net.state_dict().items() if v.is_floating_point()}, tmp_path / "n.safetensors"
        )
        text = """
file: n.safetensors
size: 8
mean: [0.5, 0.4, 0.3]
std: [0.2, 0.3, 0.4]
layers: [{conv: "0", padding: 1}, {norm: "1"}, relu, {pool: 2}, {linear: "5"}]
"""
        features = extractor(self.card(tmp_path, text))
        x = images(4, 8)
        seen = ((x + 1) / 2 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
        assert torch.allclose(features(x), net(seen), atol=1e-5)
        early = extractor(self.card(tmp_path, text + "layer: 3\n"))
        assert torch.allclose(early(x), net[:3](seen).mean((2, 3)), atol=1e-5)
        assert early.sha256 != features.sha256
        assert features(images(2, 20, 1)).shape == (2, 5)

    def test_a_program_runs_only_if_the_user_trusts_it(self, tmp_path, program, monkeypatch):
        """Whatever its card says: both may come from one archive."""
        digest = hashlib.sha256(program.read_bytes()).hexdigest()
        card = self.card(tmp_path, f"file: program.pt\nsize: 8\nsha256: {digest}\nlogits: true\n")
        for trusted in (None, "", "1", digest[:16], "f" * 64):
            if trusted is not None:
                monkeypatch.setenv("REGRAFT_TRUST", trusted)
            with pytest.raises(SourceError, match=f"is a program, which may read and write.*REGRAFT_TRUST={digest}"):
                extractor(card)
        monkeypatch.setenv("REGRAFT_TRUST", f"{'f' * 64}, {digest}")
        features = extractor(card)
        assert features(images(3)).shape == (3, 4)
        assert features.with_probabilities(images(3))[1].sum(1).tolist() == pytest.approx([1, 1, 1])
        assert extractor(self.card(tmp_path, "file: program.pt\nsize: 8\n"))(images(3)).shape == (3, 4)
        with pytest.raises(SourceError, match="its card .* says"):
            extractor(self.card(tmp_path, f"file: program.pt\nsize: 8\nsha256: {'f' * 64}\n"))

    def onnx(self, tmp_path, inputs=1):
        """A convolution, a rectifier and the mean of each map as a graph; the card of it, and the convolution."""
        from onnx import TensorProto, helper, save

        torch.manual_seed(0)
        conv = torch.nn.Conv2d(3, 6, 3)
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["out"]),
        ]
        held = [
            helper.make_tensor(name, TensorProto.FLOAT, t.shape, t.detach().flatten().tolist())
            for name, t in (("w", conv.weight), ("b", conv.bias))
        ]
        names = ["x", "other"][:inputs]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 8, 8]) for name in names]
        given_back = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 6, 1, 1])]
        graph = helper.make_graph(nodes, "tiny", given, given_back, held)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "n.onnx")
        digest = hashlib.sha256((tmp_path / "n.onnx").read_bytes()).hexdigest()
        return f"file: n.onnx\nsize: 8\nrange: [-1, 1]\nsha256: {digest}\n", conv

    def test_an_onnx_graph_is_what_torch_computes(self, tmp_path):
        text, conv = self.onnx(tmp_path)
        x = images(70, 8)
        wanted = F.relu(conv(x)).mean((2, 3))
        assert torch.allclose(extractor(self.card(tmp_path, text))(x), wanted, atol=1e-5)

    def test_an_onnx_graph_needs_the_digest_in_its_card(self, tmp_path):
        text, _ = self.onnx(tmp_path)
        with pytest.raises(SourceError, match="needs its digest in the card; write 'sha256: [0-9a-f]{64}'"):
            extractor(self.card(tmp_path, text.split("sha256")[0]))
        with pytest.raises(ConfigError, match="gives what it gives"):
            extractor(self.card(tmp_path, text + "layer: 1\n"))

    def test_an_onnx_graph_of_another_kind_is_named(self, tmp_path):
        text, _ = self.onnx(tmp_path, inputs=2)
        with pytest.raises(SourceError, match=r"has 2 inputs \(x, other\)"):
            extractor(self.card(tmp_path, text))
        text, _ = self.onnx(tmp_path)
        with pytest.raises(SourceError, match="does not run on one image of 9 pixels"):
            extractor(self.card(tmp_path, text.replace("size: 8", "size: 9")))
        (tmp_path / "n.onnx").write_bytes(b"not a graph")
        digest = hashlib.sha256(b"not a graph").hexdigest()
        with pytest.raises(SourceError, match="is not a graph that ONNX Runtime reads"):
            extractor(self.card(tmp_path, f"file: n.onnx\nsize: 8\nsha256: {digest}\n"))

    @pytest.mark.parametrize("nested", [False, True])
    def test_an_onnx_graph_with_weights_in_other_files_is_refused(self, tmp_path, monkeypatch, nested):
        """Their bytes could change, and the digest would not."""
        import onnx

        self.onnx(tmp_path)
        model = onnx.load(tmp_path / "n.onnx")
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        (tmp_path / "w.bin").write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, "w.bin")
        tensor.ClearField("raw_data")
        if nested:
            branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["k"], value=tensor)], "branch", [], [])
            model.graph.node.append(onnx.helper.make_node("If", ["x"], ["k"], then_branch=branch, else_branch=branch))
            del model.graph.initializer[0]
        content = model.SerializeToString()
        (tmp_path / "n.onnx").write_bytes(content)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SourceError, match="keeps tensors in other files, which its sha256 does not cover; save it as one"):
            extractor(self.card(tmp_path, f"file: n.onnx\nsize: 8\nsha256: {hashlib.sha256(content).hexdigest()}\n"))

    def test_without_onnx_runtime_the_way_to_it_is_said(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        text, _ = self.onnx(tmp_path)
        with pytest.raises(MissingCapability, match=r"pip install 'regraft\[onnx\]'"):
            extractor(self.card(tmp_path, text))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file: n.safetensors\nsize: 8\n", "write the network's layers into its card"),
            ("file: n.safetensors\nsize: 8\nlayers: [{conv: gone}]\n", "holds no tensor gone.weight; it has c.weight"),
            ("file: n.safetensors\nsize: 8\nlayers: [{conv: c, pool: 2}]\n", "this one is conv and pool"),
            ("file: n.safetensors\nsize: 8\nlayers: [{linear: c}]\n", "does not run on one image of 8 pixels"),
            ("file: gone.safetensors\nsize: 8\n", "cannot be read"),
            ("file: n.safetensors\nsise: 8\n", "sise"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, text, message):
        safetensors.torch.save_file({"c.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "n.safetensors")
        with pytest.raises((SourceError, ConfigError), match=message):
            extractor(self.card(tmp_path, text))

    def test_files_are_needed(self):
        for name in ("network", "mobilenet_v1", "classifier"):
            with pytest.raises(ConfigError, match=f"--extractor {name}:"):
                extractor(name)


class TestMobileNet:
    def test_real_weights_tell_kinds_of_photographs_apart(self, shared):
        features = extractor(f"mobilenet_v1:{shared / 'data' / 'weights' / 'mobilenet_v1_imagenet_features.safetensors'}")
        sets = [
            features(regraft.open_images(shared / "data" / name).take(0, 16).decode((128, 128), 3).tensor())
            for name in ("afhq_cat_128.zip", "flowers_128.zip")
        ]
        assert sets[0].shape == (16, 1024)
        means = torch.stack([s[:8].mean(0) for s in sets])
        nearest = [torch.cdist(s[8:], means).argmin(1).tolist() for s in sets]
        assert nearest == [[0] * 8, [1] * 8]

    def test_another_network_is_refused(self, tmp_path):
        safetensors.torch.save_file({"conv1.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "m.safetensors")
        with pytest.raises(SourceError, match=r"conv1.weight must be \(32, 3, 3, 3\), it is \(8, 3, 3, 3\)"):
            extractor(f"mobilenet_v1:{tmp_path / 'm.safetensors'}")


class TestCache:
    def test_features_are_kept_by_content(self, tmp_path):
        made = []

        def make():
            made.append(1)
            return torch.ones(3, 2), torch.zeros(3)

        x = images(3)
        for _ in range(2):
            first, second = _cache.kept(tmp_path, "both", "a" * 64, x, make)
            assert torch.equal(first, torch.ones(3, 2))
            assert torch.equal(second, torch.zeros(3))
        assert len(made) == 1
        for what, digest, pictures in (("features", "a" * 64, x), ("both", "b" * 64, x), ("both", "a" * 64, x.flip(0))):
            _cache.kept(tmp_path, what, digest, pictures, make)
        assert len(made) == 4

    def test_a_damaged_file_is_made_anew(self, tmp_path):
        x = images(3)
        _cache.kept(tmp_path, "f", "a" * 64, x, lambda: (torch.ones(3, 2),))
        (path,) = tmp_path.iterdir()
        path.write_bytes(b"damaged")
        assert torch.equal(_cache.kept(tmp_path, "f", "a" * 64, x, lambda: (torch.zeros(3, 2),))[0], torch.zeros(3, 2))

    def test_only_costly_extractors_are_cached_and_only_if_asked(self, tmp_path):
        safetensors.torch.save_file({"c.weight": torch.randn(2, 3, 3, 3)}, tmp_path / "n.safetensors")
        (tmp_path / "c.yaml").write_text("file: n.safetensors\nsize: 8\nlayers: [{conv: c}]\n")
        name = f"network:{tmp_path / 'c.yaml'}"
        assert extractor(name).cache is None
        assert extractor("random_conv", cache=True).cache is None
        cached = extractor(name, cache=True)
        assert torch.equal(cached(images(3)), extractor(name)(images(3)))
        assert torch.equal(cached(images(3)), extractor(name)(images(3)))
        assert any(cached.cache.iterdir())


@pytest.fixture
def labelled(tmp_path):
    """Bright and dark squares, and stripes."""
    rng = np.random.default_rng(0)
    for k in range(24):
        for name in ("bright", "dark", "stripes"):
            array = rng.integers(0, 60, (12, 12)).astype(np.uint8)
            array[3:9, 3:9] += {"bright": 180, "dark": 20, "stripes": 0}[name]
            array[::2] += np.uint8(190 if name == "stripes" else 0) * (array[::2] < 60).astype(np.uint8)
            (tmp_path / "labelled" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "labelled" / name / f"{k:02d}.png")
    return tmp_path / "labelled"


class TestTrainClassifier:
    def test_from_folder_to_class_accuracy(self, labelled, tmp_path, capsys):
        out = tmp_path / "own.safetensors"
        code = cli(["train-classifier", str(labelled), "--out", str(out), "--steps", "60", "--size", "12", "--json"])
        result = json.loads(capsys.readouterr().out)
        assert code == 0
        assert result["classes"] == ["bright", "dark", "stripes"]
        assert (result["n_train"], result["n_held"]) == (57, 15)
        assert result["accuracy"] > 0.8
        assert result["chance"] == pytest.approx(1 / 3)
        assert result["interval"][0] < result["accuracy"] <= result["interval"][1]
        code = cli(["evaluate", str(labelled), str(labelled), "--extractor", f"classifier:{out}", "--json"])
        found = {s["name"]: s for s in json.loads(capsys.readouterr().out)}
        assert code == 0
        assert found["class_accuracy[classifier:own.safetensors]"]["value"] > 0.8
        assert "inception_score[classifier:own.safetensors]" in found
        assert extractor(f"classifier:{out}").classes == ("bright", "dark", "stripes")

    def test_classes_go_by_name(self, labelled, tmp_path, capsys):
        out = tmp_path / "own.safetensors"
        train_classifier(labelled, out, steps=60, size=12)
        (labelled / "bright").rename(tmp_path / "bright")
        arguments = ["evaluate", str(labelled), str(labelled), "--extractor", f"classifier:{out}", "--json"]
        assert cli([*arguments, "--metrics", "class_accuracy"]) == 0
        (score,) = json.loads(capsys.readouterr().out)
        assert score["value"] > 0.8
        assert set(score["details"]["by_class"]) == {"dark", "stripes"}
        (labelled / "dark").rename(labelled / "dim")
        assert cli([*arguments, "--metrics", "class_accuracy"]) == 2
        assert "images of the classes dim, and the classifier knows bright, dark, stripes" in capsys.readouterr().err
        assert cli(arguments) == 0
        said = capsys.readouterr()
        assert "class_accuracy is left out: images of the classes dim" in said.err
        assert not any(s["name"].startswith("class_accuracy") for s in json.loads(said.out))

    def test_classes_of_a_generator_go_by_name(self, photos_by_class, tmp_path):
        """Of two classes, those that are right in one order are wrong in the other."""
        train_classifier(photos_by_class, tmp_path / "own", steps=2, size=8, batch=4)
        gan, found = toy_gan(n_classes=2), {}
        for names in (("bars", "blobs"), ("blobs", "bars"), ()):
            gan.provenance = dataclasses.replace(gan.provenance, classes=names)
            settings = {"metrics": ["class_accuracy"], "extractor": f"classifier:{tmp_path / 'own'}", "n": 25}
            (score,) = regraft.evaluate(gan, photos_by_class, **settings)
            found[names] = score.value
        assert found["bars", "blobs"] == found[()] != 0.5
        assert found["blobs", "bars"] == pytest.approx(1 - found[()])

    def test_what_cannot_be(self, labelled, tmp_path):
        with pytest.raises(DataError, match="at least two classes"):
            train_classifier(labelled / "dark", tmp_path / "x")
        (tmp_path / "x").write_text("")
        with pytest.raises(ConfigError, match="nothing is overwritten"):
            train_classifier(labelled, tmp_path / "x")

    def test_the_same_seed_gives_the_same_file(self, labelled, tmp_path):
        for name in ("a", "b"):
            train_classifier(labelled, tmp_path / name, steps=2, size=8, batch=4)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_damaged_files_are_refused(self, labelled, tmp_path):
        train_classifier(labelled, tmp_path / "a", steps=1, size=8, batch=4)
        tensors = safetensors.torch.load_file(tmp_path / "a")
        for change, message in (
            ({"conv1.weight": torch.zeros(64, 32, 5, 5)}, r"b: conv1.weight must be \(64, 32, 3, 3\)"),
            ({"regraft_classifier.size": torch.tensor(100_000)}, "out of range"),
            ({"regraft_classifier.classes": torch.tensor([255], dtype=torch.uint8)}, "damaged size or class names"),
        ):
            safetensors.torch.save_file(tensors | change, tmp_path / "b")
            with pytest.raises(SourceError, match=message):
                extractor(f"classifier:{tmp_path / 'b'}")
        del tensors["linear.bias"]
        safetensors.torch.save_file(tensors, tmp_path / "b")
        with pytest.raises(SourceError, match="without the tensor 'linear.bias'"):
            extractor(f"classifier:{tmp_path / 'b'}")


def test_a_metric_that_was_named_and_lacks_something_is_an_error():
    features = extractor("random_conv")
    with pytest.raises(ConfigError, match="inception_score needs a classifier, and random_conv is none"):
        compare(images(5), images(5, seed=1), None, features, ["inception_score"])
    with pytest.raises(ConfigError, match="copies needs the images that training saw"):
        compare(images(5), images(5, seed=1), None, features, ["copies"])


def test_the_table_shows_interval_and_what_real_images_score(labelled, tmp_path, capsys):
    assert cli(["evaluate", str(labelled), str(labelled), "--metrics", "kid,precision_recall"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "95 % interval" in lines[0]
    assert "real images" in lines[0]
    assert " to " in lines[1]
    assert "(n 36)" in lines[1]


def test_reading_is_as_torch_would_resize():
    from regraft.extractors._tensors import resized

    x = images(2, 9)
    assert resized(x, 9) is x
    assert torch.equal(resized(x, 5), F.interpolate(x, size=(5, 5), mode="bilinear", antialias=True))
