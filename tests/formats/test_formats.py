"""Home-made state dicts in the dialects that people write, cards, and regraft's own files."""

import json

import pytest
import torch
import yaml
from torch import nn

import regraft
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import GAN, tensor_digest
from regraft.core.networks import evaluating
from support.toys import toy_gan


class Reshape(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.view(len(x), *self.shape)


class Up(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2)


def deconvs(*widths, last=3, final=(4, 2, 1), bias=False):
    """The generator of PyTorch's DCGAN example: 4x4, then doublings."""
    layers = [nn.ConvTranspose2d(10, widths[0], 4, 1, 0, bias=bias), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], last, *final, bias=bias), nn.Tanh())


def convs(channels, *widths, last=(4, 1, 0)):
    layers = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for a, b in zip(widths[:-1], widths[1:]):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, *last, bias=False))


def linear_upsampling():
    """Linear, batch norm on maps, nearest upsampling and 3x3 convolutions, as many tutorials do."""
    return nn.Sequential(
        nn.Linear(10, 8 * 8 * 8),
        Reshape(8, 8, 8),
        nn.BatchNorm2d(8),
        Up(),
        nn.Conv2d(8, 6, 3, 1, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        Up(),
        nn.Conv2d(6, 3, 3, 1, 1),
        nn.Tanh(),
    )


def settle(generator, spatial=True):
    """Give norms the statistics of their own inputs, as training would."""
    return train_statistics(generator, regraft.Latent(10), spatial)


def train_statistics(generator, latent, spatial=True):
    """Plain averages of batch statistics: without a trace of their initial values, as after long training."""
    for module in generator.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(20):
            z = latent.sample(64, rng)
            generator(z[:, :, None, None] if spatial else z)
    return generator.eval()


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


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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
    assert f"latent {distribution}: fits the stored batch statistics best" in text
    assert f"hidden activations {activation}" in text


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
    assert "assumed to be relu" in said
    assert "latent assumed to be normal" in said


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


class TestCards:
    def card(self, folder, **fields):
        (folder / "source.yaml").write_text(yaml.safe_dump({"regraft_card": 1, "generator": "g.bin", **fields}))
        return folder / "source.yaml"

    @pytest.fixture
    def folder(self, tmp_path):
        torch.save(settle(deconvs(8, 6)).state_dict(), tmp_path / "g.bin")
        torch.save(convs(3, 4, 6).state_dict(), tmp_path / "d.bin")
        return tmp_path

    def test_card_and_folder_are_the_same_source(self, folder):
        card = self.card(folder, critic="d.bin", name="mine", licence="CC0", objective="wgan-gp", recipe={"batch": 7})
        a, b = regraft.load(card), regraft.load(folder)
        assert tensor_digest(a.generator) == tensor_digest(b.generator)
        assert (a.provenance.name, a.provenance.licence) == ("mine", "CC0")
        assert a.objective.loss == "wgan"
        assert a.recipe.batch == 7
        assert a.critic is not None

    def test_what_the_card_says_is_not_inferred(self, folder):
        card = self.card(
            folder, generator={"file": "g.bin", "activation": "silu", "output": "none"}, latent={"distribution": "sphere"}
        )
        gan = regraft.load(card)
        assert gan.generator.config.layers[0].activation == "silu"
        assert gan.generator.config.layers[-1].activation == "none"
        assert gan.generator.latent.distribution == "sphere"
        assert not any("assumed" in said or "fits" in said for said in gan.provenance.assumptions)

    def test_unit_range(self, folder):
        signed = regraft.load(
            self.card(folder, generator={"file": "g.bin", "output": "sigmoid"}, latent={"distribution": "normal"})
        )
        unit = regraft.load(self.card(folder, image_range="unit", latent={"distribution": "normal"}))
        z = torch.randn(2, 10)
        assert torch.allclose(unit.generator(z), signed.generator(z) * 2 - 1, atol=1e-6)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"critc": "d.bin"}, "no setting called critc; did you mean critic"),
            ({"generator": {"activation": "relu"}}, "generator.file is missing"),
            ({"generator": "other.bin"}, "there is no such file beside it"),
            ({"size": 48}, "no usual strides and paddings"),
            ({"generator": {"file": "g.bin", "key": "netG"}}, "has no key netG"),
            ({"latent": {"distribution": "cauchy"}}, "distribution"),
        ],
    )
    def test_mistakes_are_named(self, folder, fields, message):
        with pytest.raises((SourceError, ConfigError), match=message):
            regraft.load(self.card(folder, **fields))


class TestUnreadable:
    @pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"<html>", b"\x89PNG....", b"PK\x03\x04garbage", b"\x00" * 99])
    def test_other_files_are_named_for_what_they_are(self, tmp_path, content):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(SourceError, match=r"x\.pth: .*regraft reads"):
            regraft.load(tmp_path / "x.pth")

    @pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
    @pytest.mark.parametrize("modern", [True, False])
    def test_cut_short(self, tmp_path, keep, modern):
        torch.save(deconvs(8, 6).state_dict(), tmp_path / "G.pth", _use_new_zipfile_serialization=modern)
        content = (tmp_path / "G.pth").read_bytes()
        (tmp_path / "G.pth").write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(SourceError, match=r"G\.pth"):
            regraft.load(tmp_path / "G.pth")

    def test_a_pickled_module_is_refused(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / "G.pth")
        with pytest.raises(SourceError, match=r"refused, .* Save only the state_dict"):
            regraft.load(tmp_path / "G.pth")

    def test_hostile_pickle_does_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (open, (str(tmp_path / "ran"), "w"))

        torch.save({"weight": Evil()}, tmp_path / "G.pth")
        with pytest.raises(SourceError, match="refused"):
            regraft.load(tmp_path / "G.pth")
        assert not (tmp_path / "ran").exists()

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
    def test_other_networks_are_told_apart(self, tmp_path, tensors, message):
        torch.save(tensors, tmp_path / "G.pth")
        with pytest.raises(SourceError, match=message):
            regraft.load(tmp_path / "G.pth")

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("1.running_mean", ()), ("1.running_var", (8, 1)), ("1.weight", ()), ("1.bias", (7,)), ("0.weight", (10, 0, 4, 4))],
    )
    def test_tensors_of_a_layer_must_fit_each_other(self, tmp_path, name, shape):
        tensors = deconvs(8, 6).state_dict() | {name: torch.ones(shape)}
        torch.save(dict(tensors), tmp_path / "G.pth")
        with pytest.raises(SourceError, match=rf"G\.pth: generator: {name[0]}\..* has shape .*, which fits no layer"):
            regraft.load(tmp_path / "G.pth")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(SourceError, match="there is no such file or folder"):
            regraft.load(tmp_path / "G.pth")
        with pytest.raises(SourceError, match="a folder with nothing in it"):
            regraft.load(tmp_path)

    def test_a_folder_with_one_file_of_weights_means_that_file(self, tmp_path):
        torch.save(dict(deconvs(8, 6).state_dict()), tmp_path / "G.pth")
        (tmp_path / "notes.txt").write_text("not weights")
        assert regraft.load(tmp_path).provenance.name == "G"
        torch.save(dict(deconvs(8, 6).state_dict()), tmp_path / "other.pth")
        with pytest.raises(SourceError, match=r"holds 2 files of weights .* G\.pth, other\.pth"):
            regraft.load(tmp_path)


class TestOwnFormat:
    def test_conversion_is_bit_identical(self, tmp_path, gan):
        folder = regraft.convert(gan, tmp_path / "out")
        again = regraft.load(folder)
        assert tensor_digest(again.generator) == tensor_digest(gan.generator)
        assert tensor_digest(again.critic) == tensor_digest(gan.critic)
        assert torch.equal(again.sample(4, 2), gan.sample(4, 2))
        assert again.objective == gan.objective
        assert again.recipe == gan.recipe
        assert not any(p.requires_grad for p in again.generator.parameters())
        assert not again.generator.training
        second = regraft.convert(folder, tmp_path / "second")
        assert (second / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()

    def test_conditional_and_mlp(self, tmp_path):
        for k, source in enumerate((toy_gan(n_classes=3), toy_gan("mlp", n_classes=3), toy_gan("mlp"))):
            again = regraft.load(regraft.convert(source, tmp_path / str(k)))
            assert torch.equal(again.sample(4, 2), source.sample(4, 2))

    def test_half_precision_is_held_as_float32(self, tmp_path, gan):
        from safetensors.torch import load_file, save_file

        folder = regraft.convert(gan, tmp_path / "out")
        tensors = load_file(folder / "model.safetensors")
        halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        save_file(halves, folder / "model.safetensors")
        again = regraft.load(folder)
        assert all(p.dtype == torch.float32 for p in again.generator.parameters())
        with evaluating(again.generator), torch.no_grad():
            assert torch.allclose(again.sample(4, 2), gan.sample(4, 2), atol=0.02)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: r.update(format="other"), "not a regraft source"),
            (lambda r: r.update(format_version=9), "source format 9"),
            (lambda r: r.pop("generator"), "belongs to no network"),
            (lambda r: r["generator"].update(kind="dcgn"), "no backbone called dcgn; did you mean dcgan"),
            (lambda r: r["generator"]["config"].update(surprise=1), "no setting called surprise"),
            (lambda r: r["generator"]["config"]["layers"][0].update(outputs=5), "cannot take|do not fit"),
            (lambda r: r["generator"]["config"]["layers"][0].update(kernel=[10**9, 4]), "kernel"),
            (lambda r: r.update(recipe={"batch": "x"}), "batch"),
        ],
    )
    def test_a_changed_record_is_a_clear_error(self, tmp_path, gan, change, message):
        folder = regraft.convert(gan, tmp_path / "out")
        record = json.loads((folder / "source.json").read_text())
        change(record)
        (folder / "source.json").write_text(json.dumps(record))
        with pytest.raises((SourceError, ConfigError), match=message):
            regraft.load(folder)

    def test_damaged_tensors(self, tmp_path, gan):
        folder = regraft.convert(gan, tmp_path / "out")
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[:-20])
        with pytest.raises(SourceError, match="damaged or missing"):
            regraft.load(folder)

    def test_nothing_is_overwritten(self, tmp_path, gan):
        (tmp_path / "out").mkdir()
        with pytest.raises(ConfigError, match="nothing is overwritten"):
            regraft.convert(gan, tmp_path / "out")

    def test_gan_can_be_sampled_in_any_batch_size(self, gan):
        whole = GAN(gan.generator).sample(20, 3, batch=20)
        for batch in (1, 7):
            assert (GAN(gan.generator).sample(20, 3, batch=batch) - whole).abs().max() < 1 / 127.5
        assert torch.allclose(gan.sample(5, 3, first=9), whole[9:14], atol=1 / 255)
