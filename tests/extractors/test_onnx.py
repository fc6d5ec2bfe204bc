"""Extractors from ONNX graphs: what they compute, and which graphs are refused."""

import hashlib
import sys

import pytest
import torch
from torch.nn import functional as F

from regraft.core.errors import ConfigError, MissingCapability, SourceError
from regraft.evaluation.compare import extractor
from support.extractor_files import network_card
from support.toys import uniform_images


class TestONNX:
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
        x = uniform_images(70, 8)
        wanted = F.relu(conv(x)).mean((2, 3))
        assert torch.allclose(extractor(network_card(tmp_path, text))(x), wanted, atol=1e-5)

    def test_an_onnx_graph_needs_the_digest_in_its_card(self, tmp_path):
        text, _ = self.onnx(tmp_path)
        with pytest.raises(SourceError, match="needs its digest in the card; write 'sha256: [0-9a-f]{64}'"):
            extractor(network_card(tmp_path, text.split("sha256")[0]))
        with pytest.raises(ConfigError, match="gives what it gives"):
            extractor(network_card(tmp_path, text + "layer: 1\n"))

    def test_an_onnx_graph_of_another_kind_is_named(self, tmp_path):
        text, _ = self.onnx(tmp_path, inputs=2)
        with pytest.raises(SourceError, match=r"has 2 inputs \(x, other\)"):
            extractor(network_card(tmp_path, text))
        text, _ = self.onnx(tmp_path)
        with pytest.raises(SourceError, match="does not run on one image of 9 pixels"):
            extractor(network_card(tmp_path, text.replace("size: 8", "size: 9")))
        (tmp_path / "n.onnx").write_bytes(b"not a graph")
        digest = hashlib.sha256(b"not a graph").hexdigest()
        with pytest.raises(SourceError, match="is not a graph that ONNX Runtime reads"):
            extractor(network_card(tmp_path, f"file: n.onnx\nsize: 8\nsha256: {digest}\n"))

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
            extractor(network_card(tmp_path, f"file: n.onnx\nsize: 8\nsha256: {hashlib.sha256(content).hexdigest()}\n"))

    def test_without_onnx_runtime_the_way_to_it_is_said(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        text, _ = self.onnx(tmp_path)
        with pytest.raises(MissingCapability, match=r"pip install 'regraft\[onnx\]'"):
            extractor(network_card(tmp_path, text))
