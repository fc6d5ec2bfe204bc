"""Layers that have names and no numbers: errors show the card that says their order.  Tables of classes are no layers."""

import re

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

import regraft
from regraft.core.errors import SourceError
from support.home_made import train_statistics


class Named(nn.Module):
    """A generator of 16 px whose layers have names; made in an order that is not that of computation."""

    def __init__(self):
        super().__init__()
        self.out = nn.ConvTranspose2d(6, 3, 4, 2, 1)
        self.grow = nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.grow_norm = nn.BatchNorm2d(6)
        self.project = nn.Linear(10, 8 * 4 * 4)
        self.project_norm = nn.BatchNorm2d(8)

    def forward(self, z):
        x = torch.relu(self.project_norm(self.project(z).view(-1, 8, 4, 4)))
        return torch.tanh(self.out(torch.relu(self.grow_norm(self.grow(x)))))


@pytest.fixture
def named():
    """A generator whose layers have names of their own."""
    torch.manual_seed(0)
    return train_statistics(Named(), regraft.Latent(10), spatial=False)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_error_shows_a_card_that_works(tmp_path, named, suffix):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(named.state_dict(), path)
    with pytest.raises(SourceError) as refused:
        regraft.load(path)
    card = re.search(r"    regraft_card: 1\n(    .*\n?)+", str(refused.value))[0]
    assert "order: [project, project_norm, grow, grow_norm, out]" in card
    (tmp_path / "source.yaml").write_text(card)
    gan = regraft.load(tmp_path / "source.yaml")
    z = torch.randn(3, 10)
    assert torch.allclose(gan.generator(z), named(z), atol=1e-5)


def test_a_critic_beside_may_need_an_order_too(tmp_path, named):
    torch.save(named.state_dict(), tmp_path / "g.pth")
    critic = {
        "score.weight": torch.randn(1, 8 * 4 * 4),
        "a.weight": torch.randn(6, 3, 4, 4),
        "b.weight": torch.randn(8, 6, 4, 4),
    }
    torch.save(critic, tmp_path / "d.pth")
    card = {
        "regraft_card": 1,
        "generator": {"file": "g.pth", "order": ["project", "project_norm", "grow", "grow_norm", "out"]},
        "critic": {"file": "d.pth"},
    }
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(SourceError, match=r"critic:\n +file: d\.pth\n +order: \[a, b, score\]"):
        regraft.load(tmp_path / "source.yaml")
    card["critic"]["order"] = ["a", "b", "score"]
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
    assert regraft.load(tmp_path / "source.yaml").critic is not None


def test_safetensors_layers_that_could_be_swapped_are_not_guessed(tmp_path):
    """A safetensors file lists names by the alphabet: ``last`` before ``middle``, and both have one shape."""
    chain = nn.ModuleDict(
        {"first": nn.Linear(10, 32), "middle": nn.Linear(32, 32), "later": nn.Linear(32, 32), "out": nn.Linear(32, 64)}
    )
    save_file(chain.state_dict(), tmp_path / "mlp.safetensors")
    with pytest.raises(
        SourceError, match=r"several layers have the shape \(32, 32\)(.|\n)*order: \[first, later, middle, out\]"
    ):
        regraft.load(tmp_path / "mlp.safetensors")
    card = {"regraft_card": 1, "generator": {"file": "mlp.safetensors"}}
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(SourceError, match="several layers have the shape"):
        regraft.load(tmp_path)
    card["generator"]["order"] = ["first", "middle", "later", "out"]
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
    z = torch.randn(2, 10)
    x = z
    for name in ("first", "middle", "later"):
        x = torch.relu(chain[name](x))
    assert torch.allclose(regraft.load(tmp_path).generator(z).flatten(1), torch.tanh(chain["out"](x)), atol=1e-6)


def test_numbers_put_layers_in_order(tmp_path):
    layers = {f"fc{k}": nn.Linear(32 if k > 1 else 10, 32 if k < 12 else 64) for k in range(1, 13)}
    save_file(nn.ModuleDict(layers).state_dict(), tmp_path / "mlp.safetensors")
    gan = regraft.load(tmp_path / "mlp.safetensors")
    assert [layer.outputs for layer in gan.generator.config.layers] == [32] * 11 + [64]


@pytest.mark.parametrize("name", ["label_emb", "embed", "class_embedding", "labelEmbedding.0", "generator.y_embed"])
@pytest.mark.parametrize("shape", [(10, 10), (16, 16), (10, 4)])
def test_an_embedding_is_no_linear_layer(tmp_path, name, shape):
    tensors = {
        f"{name}.weight": torch.randn(shape),
        "model.0.weight": torch.randn(32, 16),
        "model.2.weight": torch.randn(64, 32),
    }
    torch.save(tensors, tmp_path / "cgan.pth")
    said = rf"{re.escape(name)}\.weight is an embedding of {shape[0]} classes, a table and no linear layer: this network takes"
    with pytest.raises(SourceError, match=said) as refused:
        regraft.load(tmp_path / "cgan.pth")
    assert "order:" not in str(refused.value)
    assert "regraft.GAN(generator=" in str(refused.value)
