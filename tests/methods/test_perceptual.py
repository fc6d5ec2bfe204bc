"""Distances by the features of a network: VGG16, MobileNet, or the source's critic."""

import pytest
import torch
from torch.nn import functional as F

import regraft
from regraft.core.errors import SourceError
from regraft.methods._perceptual import MOBILE_KEPT, CriticPerception, perception
from support.extractor_files import vgg16_state
from support.toys import two_layer_toy


@pytest.mark.parametrize("dialect", ["caffe", "torch"])
def test_vgg16_from_a_file(dialect, tmp_path):
    tensors = vgg16_state(dialect)
    torch.save(tensors, tmp_path / "vgg.pth")
    network = perception(str(tmp_path / "vgg.pth"), None)
    rng = torch.Generator().manual_seed(1)
    x, t = (torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1 for _ in range(2))
    if dialect == "caffe":
        prepare = lambda v: (v[:, [2, 1, 0]] + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]  # noqa: E731
    else:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        prepare = lambda v: ((v + 1) / 2 - mean[:, None, None]) / std[:, None, None]  # noqa: E731
    a, b, total = prepare(x), prepare(t), 0
    values = [v for k, v in tensors.items() if "classifier" not in k]
    for k, (weight, bias) in enumerate(zip(values[::2], values[1::2])):
        if k in (2, 4, 7):
            a, b = F.max_pool2d(a, 2), F.max_pool2d(b, 2)
        a, b = (F.conv2d(v, weight, bias, padding=1).relu() for v in (a, b))
        total = total + (a - b).abs().mean() / (b.mean() if dialect == "torch" else 1)
    assert torch.allclose(network(x, t), total, rtol=1e-4)
    assert network(x, x).item() == 0


def test_mobilenet_on_real_weights(shared):
    """Its features must tell cats from faces; a network that is wired wrongly does not."""
    network = perception(str(shared / "data" / "weights" / "mobilenet_v1_imagenet_features.safetensors"), None)
    sets = [
        regraft.open_images(shared / "data" / f"{name}.zip").take(0, 12).decode((64, 64), 3).tensor()
        for name in ("afhq_cat_128", "celeba_64")
    ]
    with torch.no_grad():
        last = torch.cat([network.features(x)[-1].mean((2, 3)) for x in sets])
    assert last.shape == (24, 512)
    gaps = torch.cdist(last, last).fill_diagonal_(float("inf"))
    nearest = gaps.argmin(1) >= 12
    right = (nearest == torch.tensor([False] * 12 + [True] * 12)).float().mean()
    assert right >= 0.9
    assert len(network.features(sets[0][:1, :1])) == len(MOBILE_KEPT)


def test_critic_features_are_those_of_its_hidden_stages():
    gan = two_layer_toy("dcgan")
    network = CriticPerception(gan.critic)
    x, t = (torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    total, a, b = 0, x, t
    for stage in gan.critic.stages[:-1]:
        a, b = stage(a), stage(b)
        total = total + (a - b).abs().mean() / b.abs().mean()
    assert torch.allclose(network(x, t), total, rtol=1e-5)


def test_files_that_are_no_perceptual_network(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(SourceError, match="neither VGG16"):
        perception(str(tmp_path / "a.pth"), None)
    tensors = vgg16_state("torch")
    torch.save(tensors | {"features.2.weight": torch.zeros(1)}, tmp_path / "b.pth")
    with pytest.raises(SourceError, match=r"features.2.weight is \(1,\), must be \(64, 64, 3, 3\)"):
        perception(str(tmp_path / "b.pth"), None)
    del tensors["features.21.bias"]
    torch.save(tensors, tmp_path / "c.pth")
    with pytest.raises(SourceError, match=r"without the tensor features.21.bias"):
        perception(str(tmp_path / "c.pth"), None)
    (tmp_path / "d.pth").write_bytes(b"no tensors")
    with pytest.raises(SourceError, match=r"d.pth"):
        perception(str(tmp_path / "d.pth"), None)
