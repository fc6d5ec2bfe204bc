"""Recorded outputs of NVlabs' own code, from its own pickles."""

import pytest
import torch

import regraft
from regraft.core.build import build_fresh
from regraft.core.networks import Description
from support.plugins import find_plugin
from support.recorded import recorded_arrays

SETTINGS = {
    "img_const": {},
    "img_none": {"noise": "none"},
    "img_psi05": {"psi": 0.5},
}


@pytest.fixture(params=["stylegan2ada_uncond", "stylegan3_t"])
def folder(shared, request):
    """A folder with a pickle and what its code computed."""
    return shared / "reference" / request.param


@torch.no_grad()
def test_equals_its_authors(folder):
    gan = regraft.load(folder / "network-snapshot.pkl")
    recorded = recorded_arrays(folder)
    z = recorded["z"]
    assert (gan.generator.mapping(z) - recorded["ws"]).abs().max() < 1e-5
    for name, options in SETTINGS.items():
        if name in recorded:
            assert (gan.generator(z, **options) - recorded[name]).abs().max() < 1e-5, name
    partly = gan.generator.synthesis(
        torch.cat([gan.generator.mapping.truncate(recorded["ws"], 0.7)[:, :4], recorded["ws"][:, 4:]], 1), "const", None
    )
    assert (partly - recorded["img_psi07_cut4"]).abs().max() < 1e-5
    for images, scores in (("real", "d_real"), ("img_const", "d_fake")):
        assert torch.allclose(gan.critic(recorded[images]), recorded[scores][:, 0], rtol=1e-3, atol=1e-5)
    if "d_real_n3" in recorded:
        assert torch.allclose(gan.critic(recorded["real"][:3]), recorded["d_real_n3"][:, 0], rtol=1e-3, atol=1e-5)


def test_every_key_is_used_or_a_filter(folder):
    gan = regraft.load(folder / "network-snapshot.pkl")
    for network, listing in ((gan.generator, "G_keys.tsv"), (gan.critic, "D_keys.tsv")):
        rows = (folder / listing).read_text().splitlines()
        names = {row.split("\t")[0] for row in rows}
        assert {n for n in names if not n.endswith("resample_filter")} == set(network.state_dict())


def test_conversion_and_provenance(folder, tmp_path):
    gan = regraft.load(folder / "network-snapshot.pkl")
    again = regraft.load(regraft.convert(gan, tmp_path / "converted"))
    assert torch.equal(again.sample(4, 1), gan.sample(4, 1))
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(again.critic(x), gan.critic(x))
    assert gan.provenance.format == "NVlabs pickle"
    assert "float16" in " ".join(gan.provenance.assumptions)
    assert gan.objective.penalty_every == 16


@pytest.mark.parametrize("method", ["freezed", "transfergan", "minegan"])
def test_adapts(folder, method, photos):
    gan = regraft.load(folder / "network-snapshot.pkl")
    extra = {"mining_steps": 1} if method == "minegan" else {}
    run = regraft.adapt(
        photos, gan, method=method, steps=2, batch=4, seed=0, write=False, keep="last", evaluate_every=0, held_out=0, **extra
    )
    images = run.gan.sample(2, 0)
    assert torch.isfinite(images).all()
    assert not torch.equal(images, gan.sample(2, 0))


def test_designed_filters_equal_the_stored_ones(shared):
    """Kaiser's formulas against what SciPy designed for the file."""
    gan = regraft.load(shared / "reference" / "stylegan3_t" / "network-snapshot.pkl")
    stored = gan.generator.state_dict()
    designed = find_plugin("backbones", "stylegan3").filters(gan.generator.describe().config)
    assert set(designed) == {k for k in stored if k.endswith("_filter")}
    for name, value in designed.items():
        assert (stored[name] - value).abs().max() < 1e-6, name
    fresh = build_fresh(Description("stylegan3", "generator", gan.generator.describe().config), 0).state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in designed.items())
