"""Tensors are used once, under the file's names, and every error names the file and the tensor."""

import pytest
import torch

from regraft.core.errors import SourceError
from regraft.formats._tensor_reader import TensorReader


def reader(**tensors):
    return TensorReader({name.replace("__", "."): value for name, value in tensors.items()}, "x.pth")


def test_tensors_move_to_new_names_in_float32():
    source = reader(a__weight=torch.randn(2, 3).half(), n=torch.tensor([7]))
    source.move("a.weight", "first.weight", 2, layout=torch.t)
    source.put("count", source.number("n"))
    moved = source.finish()
    assert moved["first.weight"].shape == (3, 2)
    assert moved["first.weight"].dtype == torch.float32
    assert moved["first.weight"].is_contiguous()
    assert moved["count"].shape == ()
    assert "a.weight" not in source


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda r: r.take("b"), "b is missing"),
        (lambda r: r.take("a.weight", 4), r"a.weight has shape \(2, 3\), and must have 4 dimensions"),
        (lambda r: r.take("a.weight", 1, 4), "must have 1 or 4 dimensions"),
        (lambda r: (r.take("a.weight"), r.take("a.weight")), "a.weight is missing"),
        (lambda r: r.take("empty"), "holds no numbers"),
        (lambda r: r.take("complex"), "complex numbers"),
        (lambda r: r.number("a.weight"), "must hold one number"),
        (lambda r: (r.move("a.weight", "w"), r.move("a.bias", "w")), "two of its tensors are the network's w"),
        (lambda r: r.finish(), "tensors not used: a.weight, a.bias, empty and 1 more"),
        (lambda r: (r.ignore(r"a\..*"), r.finish()), "tensors not used: empty, complex;"),
    ],
)
def test_what_does_not_fit_is_named(use, message):
    source = reader(
        a__weight=torch.zeros(2, 3), a__bias=torch.zeros(2), empty=torch.zeros(0), complex=torch.zeros(1, dtype=torch.complex64)
    )
    with pytest.raises(SourceError, match=f"x.pth: .*{message}"):
        use(source)


@pytest.mark.parametrize(
    ("numbers", "limits", "message"),
    [
        ((0, 2), {}, r"layers block\*\. are numbered \[0, 2\], not from 0 on without a gap"),
        ((1, 2), {}, "not from 0"),
        ((), {}, "has 0 layers .*, and must have 1 to 64"),
        ((0, 1, 2), {"most": 2}, "has 3 layers .*, and must have 1 to 2"),
    ],
)
def test_numbered_layers_have_no_gap(numbers, limits, message):
    source = reader(**{f"block{k}__w": torch.zeros(1) for k in numbers})
    with pytest.raises(SourceError, match=message):
        source.numbered("block{}.", **limits)
    assert reader(**{f"block{k}__w": torch.zeros(1) for k in (1, 2)}).numbered("block{}.", first=1) == [1, 2]


def test_a_network_is_checked_before_any_memory_is_taken():
    source = reader(w=torch.zeros(1))
    source.move("w", "layers.0.weights.weight")
    layer = {"kind": "linear", "inputs": 1 << 40, "outputs": 1 << 40}
    with pytest.raises(SourceError, match="x.pth: "):
        source.network("mlp", "generator", {"latent": {"dim": 1 << 40}, "layers": [layer]})
