"""NVlabs pickles in configurations that the recorded fixtures do not have, written here tensor by tensor."""

import time

import numpy as np
import pytest
import torch

import regraft
from regraft.core.errors import SourceError
from regraft.core.gan import tensor_digest
from support.nvlabs_files import FIR, Module, dumped, tree
from support.nvlabs_sources import critic2, critic_options, generator2, noisy, options_of, written
from support.toys import toy_gan


def same(gan, g, d=None):
    assert gan.generator.describe() == g.describe()
    assert tensor_digest(gan.generator) == tensor_digest(g)
    if d is not None:
        assert gan.critic.describe() == d.describe()
        assert tensor_digest(gan.critic) == tensor_digest(d)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(tmp_path, protocol):
    g, d = generator2(), critic2()
    if protocol == 2:
        # Python 3 spells bytes in protocol 2 by a call that no checkpoint needs.
        with pytest.raises(SourceError, match="refused, because it names _codecs.encode"):
            regraft.load(written(tmp_path, g, d, protocol=2))
        return
    same(regraft.load(written(tmp_path, g, d, protocol=protocol)), g, d)


@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
@pytest.mark.parametrize("classes", [0, 3])
def test_ada_dialect(tmp_path, architecture, classes):
    g = generator2(
        architecture=architecture, c_dim=classes, conv_clamp=64.0, mapping_layers=3, layer_features=9, img_channels=1
    )
    d = critic2(architecture=architecture, c_dim=classes, cmap_dim=7 if classes else 0, mapping_layers=2, img_channels=1)
    mapping = {"num_layers": 3, "layer_features": 9}
    synthesis = {"architecture": architecture, "conv_clamp": 64, "num_fp16_res": 4, "channel_base": 99}
    path = written(
        tmp_path,
        g,
        d,
        options_of(g, mapping_kwargs=mapping, synthesis_kwargs=synthesis),
        critic_options(d, architecture=architecture, mapping_kwargs={"num_layers": 2}),
    )
    gan = regraft.load(path)
    same(gan, g, d)
    assert gan.provenance.dataset == "cats"
    said = " ".join(gan.provenance.assumptions)
    assert "D: conv_clamp assumed to be None" in said
    assert "G_ema: conv_clamp" not in said
    assert "names no licence" in said


def test_dialects_have_their_own_defaults(tmp_path):
    """Without a word on it, ADA's code bounds no layer, StyleGAN3's at 256, and the layers' own attributes win over both."""
    g, d = generator2(), critic2()
    ada = regraft.load(written(tmp_path, g, d))
    assert (ada.generator.config.conv_clamp, ada.critic.config.conv_clamp) == (None, None)
    flat = options_of(g, mapping_kwargs={"num_layers": 2}, fused_modconv_default="inference_only", channel_base=1)
    gan = regraft.load(written(tmp_path, g, d, flat))
    assert (gan.generator.config.conv_clamp, gan.critic.config.conv_clamp) == (256.0, 256.0)
    attributes = {"b16.fromrgb": {"conv_clamp": np.float64(99)}, "b4.mbstd": {"group_size": None}}
    network = tree(d.state_dict() | {"b4.mbstd.x": torch.zeros(1)}, "Discriminator", critic_options(d), attributes)
    network.meta["state"]["_modules"]["b4"].meta["state"]["_modules"]["mbstd"].meta["state"]["_parameters"].clear()
    content = {"G_ema": tree(g.state_dict(), "Generator", flat), "D": network}
    (tmp_path / "x.pkl").write_bytes(dumped(content))
    config = regraft.load(tmp_path / "x.pkl").critic.config
    assert (config.conv_clamp, config.mbstd_group_size) == (99.0, None)


def test_frozen_layers_are_buffers(tmp_path):
    g, d = generator2(), critic2()
    gan = regraft.load(written(tmp_path, g, d, as_buffers=("b16.", "b8.conv0")))
    same(gan, g, d)
    trained = {name for name, _ in gan.critic.named_parameters()}
    assert "b16.conv0.weight" in trained


@pytest.mark.parametrize("kind", ["t", "r"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_stylegan3(tmp_path, kind, protocol):
    settings = {"kind": kind, "width": 64, "top_width": 6, "latent_dim": 5, "layers": 5}
    toy = toy_gan("stylegan3", size=16, channels=3, n_classes=3, **settings)
    g = noisy("stylegan3", "generator", toy.generator.describe().config)
    d = critic2(c_dim=3, cmap_dim=7, conv_clamp=256.0)
    radial = {"conv_kernel": 1, "use_radial_filters": True} if kind == "r" else {}
    options = options_of(
        g,
        mapping_kwargs={"num_layers": 2},
        num_layers=np.int64(5),
        channel_base=64,
        magnitude_ema_beta=0.999,
        last_stopband_rel=np.float64(2**0.3),
        **radial,
    )
    options["num_layers"] = 5
    path = written(tmp_path, g, d, options, protocol=protocol)
    gan = regraft.load(path)
    same(gan, g, d)
    z, y = torch.randn(2, 5), torch.tensor([2, 0])
    assert torch.equal(gan.generator(z, y), g(z, y))


def test_half_precision_and_strides(tmp_path):
    g = generator2()
    tensors = {
        k: v.half() if k.endswith("conv1.bias") else v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v
        for k, v in g.state_dict().items()
    }
    content = {"G_ema": tree(tensors, "Generator", options_of(g, mapping_kwargs={"num_layers": 2}, synthesis_kwargs={}))}
    (tmp_path / "x.pkl").write_bytes(dumped(content))
    gan = regraft.load(tmp_path / "x.pkl")
    for name, value in gan.generator.state_dict().items():
        assert value.dtype == torch.float32
        assert value.is_contiguous()
        assert torch.equal(value, tensors[name].float())
    assert "no critic found" in gan.provenance.assumptions


class TestRefusals:
    def load(self, folder, change_tensors=None, options=None, **extra):
        g = generator2()
        tensors = dict(g.state_dict())
        if change_tensors:
            change_tensors(tensors)
        given = options_of(g, mapping_kwargs={"num_layers": 2}, synthesis_kwargs={}) | (options or {})
        (folder / "x.pkl").write_bytes(dumped({"G_ema": tree(tensors, "Generator", given, **extra)}))
        return regraft.load(folder / "x.pkl")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.pop("synthesis.b8.conv0.bias"), "missing: synthesis.b8.conv0.bias"),
            (lambda t: t.update(surprise=torch.zeros(2)), "not used: surprise"),
            (lambda t: t.update({"synthesis.b8.conv0.bias": torch.zeros(9)}), "wrong shape"),
            (lambda t: t.pop("mapping.fc1.weight"), "1 mapping layers, where its settings say 2"),
            (lambda t: t.pop("synthesis.b4.conv1.weight"), "missing: synthesis.b4.conv1.weight"),
        ],
    )
    def test_tensors(self, tmp_path, change, message):
        with pytest.raises(SourceError, match=message):
            self.load(tmp_path, change)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"img_resolution": 24}, "power of two"),
            ({"img_resolution": 2**40}, "img_resolution"),
            ({"img_resolution": 32}, "missing"),
            ({"z_dim": "many"}, "z_dim is many, must be a whole number"),
            ({"z_dim": 7}, "wrong shape"),
            ({"img_channels": 5}, "img_channels"),
            ({"mapping_kwargs": {"num_layers": 10**9}}, "mapping layers"),
            ({"mapping_kwargs": {"activation": "relu"}}, "only lrelu"),
            ({"mapping_kwargs": 3}, "must be a mapping"),
            ({"synthesis_kwargs": {"architecture": "swagan"}}, "architecture"),
            ({"synthesis_kwargs": {"wavelets": 3}}, "no setting called wavelets"),
            ({"attention": True}, "no setting called attention"),
        ],
    )
    def test_settings(self, tmp_path, options, message):
        with pytest.raises(SourceError, match=message):
            self.load(tmp_path, options=options)

    @pytest.mark.parametrize("group", [None, "mapping_kwargs", "synthesis_kwargs"])
    @pytest.mark.parametrize(
        "name", ["img_channels", "num_layers", "architecture", "conv_clamp", "num_critical", "first_cutoff"]
    )
    def test_endless_settings_are_not_written_out(self, tmp_path, group, name):
        """2^100 elements in a few bytes, where an error would show what was got."""
        for endless in ((), {}):
            for _ in range(100):
                endless = (endless, endless) if isinstance(endless, tuple) else {"a": endless, "b": endless}
            begin = time.process_time()
            with pytest.raises(SourceError, match=r"x\.pkl: ") as caught:
                self.load(tmp_path, options={group: {name: endless}} if group else {name: endless})
            with pytest.raises(SourceError):
                self.load3(tmp_path, {name: endless})
            assert time.process_time() - begin < 5
            assert len(str(caught.value)) < 600

    def load3(self, folder, options):
        g = toy_gan("stylegan3", size=16, channels=3, width=64, top_width=6, latent_dim=5, layers=5).generator
        return regraft.load(written(folder, g, None, options_of(g, mapping_kwargs={}, num_layers=5) | options))

    def test_one_dictionary_in_many_modules(self, tmp_path):
        many = {f"p{k}": torch.zeros(1) for k in range(3)} | {f"q{k}": None for k in range(100_000)}
        leaves = {str(k): Module("Part", {"_parameters": many, "_buffers": {}, "_modules": {}}) for k in range(400)}
        root = Module("Generator", {"_parameters": {}, "_buffers": {}, "_modules": leaves, "_init_kwargs": {}})
        (tmp_path / "x.pkl").write_bytes(dumped({"G_ema": root}))
        begin = time.process_time()
        with pytest.raises(SourceError, match="a module Part without _parameters"):
            regraft.load(tmp_path / "x.pkl")
        assert time.process_time() - begin < 5

    def test_another_filter(self, tmp_path):
        g = generator2()
        network = tree(g.state_dict(), "Generator", options_of(g, mapping_kwargs={"num_layers": 2}, synthesis_kwargs={}))
        block = network.meta["state"]["_modules"]["synthesis"].meta["state"]["_modules"]["b8"]
        block.meta["state"]["_buffers"]["resample_filter"] = FIR * 1.01
        (tmp_path / "x.pkl").write_bytes(dumped({"G_ema": network}))
        with pytest.raises(SourceError, match=r"x\.pkl: G_ema: synthesis\.b8\.resample_filter: is not the filter"):
            regraft.load(tmp_path / "x.pkl")

    def test_another_filter_of_stylegan3(self, tmp_path):
        g = toy_gan("stylegan3", size=16, channels=3, width=64, top_width=6, latent_dim=5, layers=5).generator
        name = next(k for k in g.state_dict() if k.endswith("up_filter"))
        g.state_dict()[name].mul_(1.01)
        with pytest.raises(SourceError, match=r"up_filter: is not the filter"):
            regraft.load(written(tmp_path, g, None, options_of(g, mapping_kwargs={}, num_layers=5)))

    def test_no_generator(self, tmp_path):
        (tmp_path / "x.pkl").write_bytes(dumped({"D": Module("x", {}), "E": 3}))
        with pytest.raises(SourceError, match="holds no module G_ema; there are: D, E"):
            regraft.load(tmp_path / "x.pkl")
