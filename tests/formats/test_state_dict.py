"""Home-made state dicts in the dialects that people write."""

import pytest
import torch
import yaml
from torch import nn

import regraft
from regraft.core.errors import SourceError
from support.home_made import convs, deconvs, linear_upsampling, settle, train_statistics

DIALECTS = {
    "PyTorch example, 64 px": (lambda: deconvs(16, 12, 8, 6), lambda: convs(3, 4, 6, 8, 10), 64),
    "csinva colour, 32 px": (
        lambda: deconvs(12, 8, 6, 6, final=(1, 1, 0)),
        lambda: convs(3, 4, 6, 8, last=(4, 1, 0)),
        32,
    ),
    "csinva MNIST, 28 px": (
        lambda: deconvs(12, 8, 6, 6, last=1, final=(1, 1, 2)),
        lambda: convs(1, 4, 6, 8, last=(4, 2, 1)),
        28,
    ),
    "no critic, 32 px": (lambda: deconvs(12, 8, 6), None, 32),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("container", ["bare", "module", "nested", "legacy", "safetensors"])
def test_dialects_load_and_compute_the_same(tmp_path, dialect, container):
    make_generator, make_critic, side = DIALECTS[dialect]
    generator = settle(make_generator())
    critic = make_critic().eval() if make_critic else None
    save(tmp_path, generator, critic, container)
    gan = regraft.load(tmp_path / ("netG.safetensors" if container == "safetensors" else "netG.pth"))
    assert gan.generator.size == (side, side)
    z = torch.randn(3, 10)
    assert torch.allclose(gan.generator(z), generator(z[:, :, None, None]), atol=1e-6)
    if critic is None:
        assert gan.critic is None
        assert "no critic found" in gan.provenance.assumptions
    else:
        x = torch.randn(3, gan.generator.channels, side, side)
        assert torch.allclose(gan.critic(x), critic(x).flatten(), atol=1e-5)
        assert any("netD" in said for said in gan.provenance.assumptions) or container == "nested"


def save(folder, generator, critic, container):
    def prefixed(network):
        return {("module." if container == "module" else "") + k: v for k, v in network.state_dict().items()}

    if container == "nested":
        content = {"netG": prefixed(generator), "epoch": 3} | ({"netD": prefixed(critic)} if critic else {})
        torch.save(content, folder / "netG.pth")
        return
    for name, network in (("netG", generator), ("netD", critic)):
        if network is not None and container == "safetensors":
            from safetensors.torch import save_file

            save_file({k: v.contiguous() for k, v in prefixed(network).items()}, folder / f"{name}.safetensors")
        elif network is not None:
            torch.save(prefixed(network), folder / f"{name}.pth", _use_new_zipfile_serialization=container != "legacy")


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0), ("leaky_relu", 0.2), ("elu", 0)])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_activation_and_latent_are_read_off_the_batch_statistics(tmp_path, activation, slope, distribution):
    modules = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(slope), "elu": nn.ELU()}
    generator = deconvs(32, 24, 16)
    for k, module in enumerate(generator):
        if isinstance(module, nn.ReLU):
            generator[k] = modules[activation]
    train_statistics(generator, regraft.Latent(10, distribution))
    torch.save(generator.state_dict(), tmp_path / "G.pth")
    gan = regraft.load(tmp_path / "G.pth")
    assert gan.generator.latent.distribution == distribution
    assert gan.generator.config.layers[0].activation == activation
    text = " ".join(gan.provenance.assumptions)
    assert f"The latent is taken to be {distribution} (" in text
    assert f"The generator's hidden layers are taken to be followed by {activation}" in text
    assert "stored in training (distance" in text


def test_upsampling_needs_a_card_or_a_size(tmp_path):
    """Nearest upsampling leaves no trace in a state dict; the image size does."""
    generator = settle(linear_upsampling(), spatial=False)
    torch.save(generator.state_dict(), tmp_path / "G.pth")
    card = {
        "regraft_card": 1,
        "generator": {"file": "G.pth", "layers": [{"activation": "none"}, {"upsample": 2}, {"upsample": 2}]},
        "latent": {"distribution": "normal"},
    }
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(card))
    gan = regraft.load(tmp_path)
    z = torch.randn(3, 10)
    assert gan.generator.size == (32, 32)
    assert torch.allclose(gan.generator(z), generator(z), atol=1e-6)
    (tmp_path / "source.yaml").write_text(yaml.safe_dump({"regraft_card": 1, "generator": "G.pth", "size": 32}))
    assert regraft.load(tmp_path).generator.size == (32, 32)


def test_mlp_pair(tmp_path):
    generator = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 784), nn.Tanh()).eval()
    critic = nn.Sequential(nn.Linear(784, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid()).eval()
    torch.save(generator.state_dict(), tmp_path / "gan_G.ckpt")
    torch.save(critic.state_dict(), tmp_path / "gan_D.ckpt")
    gan = regraft.load(tmp_path / "gan_G.ckpt")
    z = torch.randn(3, 10)
    assert torch.allclose(gan.generator(z).flatten(1), generator(z), atol=1e-6)
    x = torch.randn(3, 1, 28, 28)
    assert torch.allclose(torch.sigmoid(gan.critic(x)), critic(x.flatten(1))[:, 0], atol=1e-6)
    said = " ".join(gan.provenance.assumptions)
    assert "hidden layers are assumed to be followed by relu: nothing in the file says it." in said
    assert "last layer is assumed to be followed by tanh, so that images lie between -1 and 1." in said
    assert "The latent is assumed to be normal (each number of mean 0 and variance 1)" in said


def test_spectral_norm_is_baked_in(tmp_path):
    critic = convs(3, 4, 6)
    critic = nn.Sequential(*(nn.utils.spectral_norm(m) if isinstance(m, nn.Conv2d) else m for m in critic)).train()
    with torch.no_grad():
        critic(torch.randn(2, 3, 16, 16))
    critic.eval()
    torch.save(deconvs(8, 6).state_dict(), tmp_path / "netG.pth")
    torch.save(critic.state_dict(), tmp_path / "netD.pth")
    gan = regraft.load(tmp_path / "netG.pth")
    x = torch.randn(2, 3, 16, 16)
    assert torch.allclose(gan.critic(x), critic(x).flatten(), atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.weight": torch.zeros(3, 3, 3)}, "part of no linear layer"),
        ({"fc.weight": torch.zeros(7, 5), "fc.bias": torch.zeros(7)}, "no usual strides and paddings"),
        ({"bn.weight": torch.zeros(4), "bn.running_mean": torch.zeros(4)}, "part of no linear layer"),
        (
            {"fc1.weight": torch.zeros(400, 784), "fc21.weight": torch.zeros(20, 400), "fc22.weight": torch.zeros(20, 400)},
            "no usual",
        ),
    ],
)
def test_other_networks_are_told_apart(tmp_path, tensors, message):
    torch.save(tensors, tmp_path / "G.pth")
    with pytest.raises(SourceError, match=message):
        regraft.load(tmp_path / "G.pth")


@pytest.mark.parametrize(
    ("name", "shape"),
    [("1.running_mean", ()), ("1.running_var", (8, 1)), ("1.weight", ()), ("1.bias", (7,)), ("0.weight", (10, 0, 4, 4))],
)
def test_tensors_of_a_layer_must_fit_each_other(tmp_path, name, shape):
    tensors = deconvs(8, 6).state_dict() | {name: torch.ones(shape)}
    torch.save(dict(tensors), tmp_path / "G.pth")
    with pytest.raises(SourceError, match=rf"G\.pth: generator: {name[0]}\..* has shape .*, which fits no layer"):
        regraft.load(tmp_path / "G.pth")
