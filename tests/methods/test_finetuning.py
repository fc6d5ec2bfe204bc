"""Regularizers behind methods: nothing at all where they are switched off, a hold where they are strong."""

import copy

import pytest
import torch

import regraft
from regraft.core import discover, norms
from regraft.core.config import WGAN_GP, parse
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.gan import GAN
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin
from support.running import attached, same, trained
from support.toys import toy_gan, toy_images

METHODS = ("freezed", "transfergan", "minegan")
CPU = torch.device("cpu")
NAMES = discover.names("regularizers")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_weight_0_is_the_method_itself_bit_for_bit(method, name):
    gan, images = toy_gan(size=16, width=4, latent_dim=6), toy_images(size=16)
    base = trained(method, gan, images)
    assert same(base, trained(method, gan, images, regularizer=name, regularizer_weight=0))
    assert not same(base, trained(method, gan, images, regularizer=name, regularizer_weight=10))


@pytest.mark.parametrize("name", NAMES)
def test_a_strong_weight_holds_the_generator(name):
    gan, images = toy_gan(size=16, width=4, latent_dim=6), toy_images(size=16)
    plugin = find_plugin("regularizers", name)
    distances = []
    for weight in (0, 1e3 * plugin.weight):
        adaptation = attached("freezed", gan, images, steps=40, regularizer=name, regularizer_weight=weight)
        Loop(adaptation, images, Plan(), RunStore(None)).run()
        term = plugin.attach(adaptation.generator.requires_grad_(True), gan, plugin.Config())
        distances.append(term(torch.Generator().manual_seed(1), CPU).item())
    assert distances[1] < 0.5 * distances[0]


def test_mistakes_are_named():
    gan, images = toy_gan(), toy_images()
    with pytest.raises(ConfigError, match="did you mean ewc"):
        attached("freezed", gan, images, regularizer="ewcc")
    with pytest.raises(ConfigError, match="need regularizer="):
        attached("freezed", gan, images, regularizer_weight=1)
    with pytest.raises(ConfigError, match="no setting called image"):
        attached("freezed", gan, images, regularizer="cdc", regularizer_settings={"image": 3})
    with pytest.raises(MissingCapability, match="regularizer=ewc needs critic"):
        attached("transfergan", GAN(gan.generator), images, regularizer="ewc")
    with pytest.raises(ConfigError, match="transfer_generator"):
        attached("transfergan", gan, images, regularizer="ewc", transfer_generator=False)
    with pytest.raises(ConfigError, match="no setting called regularizer"):
        parse(find_plugin("methods", "scratch").Config, {"regularizer": "ewc"}, "scratch")
    with pytest.raises(ConfigError, match="scores have no|have no zero"):
        attached("freezed", gan.trained_with(WGAN_GP, gan.recipe), images, augment_probability="ada")
    with pytest.raises(ConfigError, match="nothing to apply"):
        attached("freezed", gan, images, augment_probability="ada", augment=[])
    with pytest.raises(ConfigError, match="augment_probability"):
        attached("freezed", gan, images, augment_probability=1.5)


def test_adapt_takes_them_from_settings(photos):
    run = regraft.adapt(photos, toy_gan(), method="freezed", steps=3, regularizer="cdc", augment_probability="ada", write=False)
    assert run.gan.sample(2).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_behind_a_miner_nothing_pulls_before_anything_is_learned(name):
    """Entering fine-tuning changes gains and shifts of norms, and no image: that is no distance from the source."""
    gan = toy_gan(size=16, width=4, latent_dim=6)
    gan = gan.trained_with(gan.objective, gan.recipe.model_copy(update={"generator_norm": "batch"}))
    plugin = find_plugin("regularizers", name)
    adaptation = attached("minegan", gan, toy_images(size=16), steps=5, mining_steps=1, finetuning_steps=4, regularizer=name)
    phase = adaptation.phases[1]
    before = copy.deepcopy(adaptation.generator.source)
    phase.on_enter()
    phase.modes()
    source = adaptation.generator.source.requires_grad_(True)
    moved = norms.rebased_parameters(source)
    changed = {k for k, p in source.named_parameters() if not torch.equal(p, dict(before.named_parameters())[k])}
    assert changed == moved != set()
    rng = torch.Generator().manual_seed(0)
    assert plugin.attach(source, gan, plugin.Config(images=4), moved)(rng, CPU).abs() < 1e-5
    assert plugin.attach(source, gan, plugin.Config(images=4))(rng, CPU).abs() > 1e-5
    batch = toy_images(size=16).batch(torch.arange(4), rng, CPU)
    _, logs = next(u for u in phase.updates if u.name == "generator").loss(batch, rng)
    assert abs(float(logs[name])) < 1e-4
