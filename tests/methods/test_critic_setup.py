"""New critics for generators that come without one."""

import pytest
import torch

import regraft
from regraft.core.build import build
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN, Provenance
from regraft.core.randomness import generator_at
from regraft.core.wrap import as_generator
from regraft.methods._fresh_networks import plain_critic
from regraft.verbs.adapt import dry_run
from support.toys import toy_gan


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("channels", [1, 3])
def test_square_sizes(side, channels):
    description = plain_critic((side, side), channels)
    assert description.config["resize"] is None
    with torch.device("meta"):
        critic = build(description)
        assert critic(torch.empty(2, channels, side, side)).shape == (2,)
    values = sum(p.numel() for p in critic.parameters())
    assert values < 20e6, "a critic for few images stays small"


@pytest.mark.parametrize(("size", "side"), [((28, 28), 32), ((48, 48), 64), ((34, 45), 64), ((96, 128), 128), ((7, 5), 8)])
def test_other_sizes_are_enlarged(size, side):
    description = plain_critic(size, 3)
    assert description.config["resize"] == [side, side]
    critic = build(description).requires_grad_(True)
    assert critic.size == size
    x = torch.randn(2, 3, *size, requires_grad=True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(p.grad is not None for p in critic.parameters() if p.dim() > 1)


@pytest.mark.parametrize("method", ["transfergan", "minegan"])
def test_adapting_without_a_critic(method, photos, tmp_path):
    bare = GAN(toy_gan().generator, provenance=Provenance(name="bare"))
    events = []
    run = regraft.adapt(
        photos, bare, method=method, steps=3, warm_up=2, recipe={"batch": 4}, out=tmp_path / "run", on_event=events.append
    )
    assert [e["phase"] for e in events if e["event"] == "phase"][0] == "warm-up"
    assert any(e["event"] == "note" and "bare has none" in e["text"] for e in events)
    assert any("bare has none" in note for note in run.notes)
    assert run.gan.critic is not None
    # The new critic is kept with the run, so that the run can be a source for methods that need one.
    again = regraft.load_adapter(run.folder, [bare])
    x = run.gan.sample(3)
    assert torch.equal(again.critic(x), run.gan.critic(x))


def test_auto_says_why(photos):
    plan = dry_run(photos, [GAN(toy_gan().generator)])
    assert plan["method"] == "transfergan"
    assert plan["phases"][0] == {"name": "warm-up", "steps": 200, "updates": ["critic"]}
    assert sum("new" in note for note in plan["notes"]) == 2


def test_freezing_a_new_critic_is_refused(photos):
    with pytest.raises(ConfigError, match="nothing to keep"):
        regraft.adapt(photos, GAN(toy_gan().generator), method="minegan", freeze=1, write=False)


def test_a_plain_module_of_an_odd_size(photos):
    module = torch.nn.Sequential(torch.nn.Linear(5, 3 * 12 * 10), torch.nn.Unflatten(1, (3, 12, 10)), torch.nn.Tanh())
    generator = as_generator(module, regraft.Latent(5))
    run = regraft.adapt(
        photos, GAN(generator), method="transfergan", steps=2, warm_up=1, recipe={"batch": 4}, keep="last", write=False
    )
    assert run.gan.sample(2).shape == (2, 3, 12, 10)
    z = generator.latent.sample(1, generator_at(0, "z"))
    assert not torch.equal(run.gan.generator(z), generator(z))
