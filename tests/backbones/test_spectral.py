"""Spectral normalisation against torch's own and a singular value decomposition."""

import pytest
import torch
from torch import nn

from regraft.backbones import _spectral


def test_stored_dialect_equals_torch_in_evaluation():
    torch.manual_seed(0)
    theirs = nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1)).eval()
    ours = _spectral.Conv2d(3, 5, 3, padding=1, dialect="stored").eval()
    state = theirs.state_dict()
    names = {"weight": "weight_orig", "u": "weight_u", "v": "weight_v", "bias": "bias"}
    ours.load_state_dict({k: state[v] for k, v in names.items()})
    x = torch.randn(2, 3, 6, 6)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_training_equals_torch_step_by_step():
    torch.manual_seed(0)
    theirs = nn.utils.spectral_norm(nn.Linear(6, 4))
    ours = _spectral.Linear(6, 4)
    state = theirs.state_dict()
    ours.load_state_dict(
        {"weight": state["weight_orig"], "u": state["weight_u"], "v": state["weight_v"], "bias": state["bias"]}
    )
    x = torch.randn(3, 6)
    for _ in range(4):
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
        ours.after_step()
    assert torch.allclose(ours.u, theirs.weight_u, atol=1e-6)


def test_loss_writes_nothing_and_steps_converge_to_the_largest_singular_value():
    torch.manual_seed(1)
    layer = _spectral.Linear(20, 10, bias=False, dialect="fresh")
    before = layer.u.clone()
    layer(torch.randn(2, 20)).sum().backward()
    assert torch.equal(before, layer.u)
    for _ in range(200):
        layer.after_step()
    assert torch.linalg.matrix_norm(layer.normalised, 2).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dialect", ["stored", "fresh"])
def test_evaluation_changes_nothing(dialect):
    layer = _spectral.Embedding(5, 3, dialect=dialect).eval()
    before = layer.u.clone()
    layer.after_step()
    assert torch.equal(before, layer.u)
    assert torch.allclose(layer(torch.eye(5)), layer(torch.arange(5)))
