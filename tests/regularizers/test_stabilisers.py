"""EWC, cross-domain correspondence and ADA: closed forms, and nothing at all where they are switched off."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import regraft
from regraft.core import discover, norms
from regraft.core.config import HINGE, WGAN_GP, Objective, Recipe, parse
from regraft.core.errors import ConfigError, Interrupted, MissingCapability
from regraft.core.gan import GAN
from regraft.core.latent import Latent
from regraft.core.randomness import generator_at
from regraft.methods._adversarial import AdversarialConfig, Game
from regraft.regularizers import cdc, ewc
from regraft.runs.store import RunStore
from regraft.training.ada import AdaptiveAugmentation
from regraft.training.augment import augment
from regraft.training.loop import Loop, Plan
from regraft.training.updates import Optimiser
from support.plugins import find_plugin
from support.toys import toy_gan, toy_images

METHODS = ("freezed", "transfergan", "minegan")
NAMES = discover.names("regularizers")
CPU = torch.device("cpu")


def attach(method, source, images, **settings):
    plugin = find_plugin("methods", method)
    return plugin.attach([source], images, parse(plugin.Config, {"steps": 5} | settings, method), generator_at(0, "init"))


def trained(method, source, images, **settings):
    adaptation = attach(method, source, images, **settings)
    loop = Loop(adaptation, images, Plan(), RunStore(None))
    loop.run()
    return {f"{m}.{k}": v for m, module in adaptation.modules.items() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Linear(nn.Module):
    """x = W z + b, as an image."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 4)

    def forward(self, z):
        return self.map(z).view(-1, 1, 2, 2)


class Plain(nn.Module):
    """A linear critic."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 1)

    def forward(self, x):
        return self.map(x.flatten(1))[:, 0]


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return GAN(Linear(), Plain(), Latent(3))


@pytest.mark.parametrize("loss", ["wgan", "nonsaturating", "hinge"])
def test_fisher_information_in_closed_form(linear, loss):
    """d/dW_ij of -D(Wz + b) is -w_i z_j; softplus has the slope sigmoid(-D) before it."""
    found = ewc.fisher(linear.generator, linear.critic, Objective(loss=loss), 500, CPU)
    z = linear.generator.latent.at(0, range(500))
    w = linear.critic.module.map.weight.detach()[0]
    scores = linear.critic(linear.generator(z)).detach()
    slope = torch.sigmoid(-scores) ** 2 if loss == "nonsaturating" else torch.ones(500)
    assert torch.allclose(found["module.map.bias"], w**2 * slope.mean(), rtol=1e-4)
    wanted = w[:, None] ** 2 * (slope[:, None] * z**2).mean(0)
    assert torch.allclose(found["module.map.weight"], wanted, rtol=1e-4)
    if loss != "nonsaturating":
        # In expectation z_j^2 is 1: the information is w_i^2 everywhere.
        assert torch.allclose(found["module.map.weight"], (w**2)[:, None].expand(4, 3), rtol=0.25)


def test_ewc_is_the_weighted_squared_distance(linear):
    tuned = copy.deepcopy(linear.generator).requires_grad_(True)
    term = ewc.PLUGIN.attach(tuned, linear, ewc.EWCConfig(images=20))
    rng = torch.Generator().manual_seed(0)
    assert term(rng, CPU).item() == 0
    with torch.no_grad():
        tuned.module.map.bias += torch.tensor([1.0, 0, 0, 2])
    information = ewc.fisher(linear.generator, linear.critic, linear.objective, 20, CPU)
    mean = torch.cat([v.flatten() for v in information.values()]).mean()
    bias = information["module.map.bias"] / mean
    found = term(rng, CPU)
    assert found.item() == pytest.approx((bias[0] + 4 * bias[3]).item(), rel=1e-5)
    found.backward()
    assert torch.allclose(tuned.module.map.bias.grad, 2 * bias * torch.tensor([1.0, 0, 0, 2]))
    tuned.requires_grad_(False)
    assert term(rng, CPU).item() == 0, "nothing to hold while the generator is frozen"


def test_correspondence_in_closed_form():
    """Three images: orthogonal ones in the source, two of them alike in the adapted generator."""
    theirs, ours = torch.eye(3), torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 0, 1]])
    p = torch.tensor([1.0, 0]).softmax(0)
    divergence = (p * (p / 0.5).log()).sum()
    # The third image sees both others alike, as before.
    assert cdc.correspondence([ours], [theirs]).item() == pytest.approx(2 / 3 * divergence.item(), rel=1e-5)
    assert cdc.correspondence([5 * theirs], [theirs]).item() == pytest.approx(0, abs=1e-7)
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    rows = cdc.similarities(x)
    for i in range(6):
        wanted = [F.cosine_similarity(x[i], x[j], dim=0) for j in range(6) if j != i]
        assert torch.allclose(rows[i], torch.stack(wanted), atol=1e-6)


@pytest.mark.parametrize("name", discover.names("backbones"))
def test_regularizers_are_zero_at_the_source_and_pull_afterwards(name):
    # The smallest StyleGAN2 has one channel at 4x4, whose demodulated features are the same for every image.
    gan = toy_gan(name, **({"size": 8, "width": 32, "latent_dim": 6} if name == "stylegan2" else {}))
    for plugin in (ewc.PLUGIN, cdc.PLUGIN):
        tuned = copy.deepcopy(gan.generator).requires_grad_(True)
        term = plugin.attach(tuned, gan, plugin.Config(images=4))
        assert term(torch.Generator().manual_seed(0), CPU).abs() < 1e-5
        with torch.no_grad():
            for k, parameter in enumerate(tuned.parameters()):
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(k))
        away = term(torch.Generator().manual_seed(0), CPU)
        assert away > 1e-5
        away.backward()
        assert any(p.grad is not None and p.grad.any() for p in tuned.parameters())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_weight_0_is_the_method_itself_bit_for_bit(method, name):
    gan, images = toy_gan(size=16, width=4, latent_dim=6), toy_images(size=16)
    base = trained(method, gan, images)
    assert same(base, trained(method, gan, images, regularizer=name, regularizer_weight=0))
    assert not same(base, trained(method, gan, images, regularizer=name, regularizer_weight=10))


@pytest.mark.parametrize("method", METHODS)
def test_ada_at_probability_0_is_the_method_itself_bit_for_bit(method):
    """It first moves after four steps of the critic."""
    gan, images = toy_gan(size=16, width=4, latent_dim=6), toy_images(size=16)
    for steps, equal in ((3, True), (12, False)):
        base = trained(method, gan, images, steps=steps, augment=[])
        ada = trained(method, gan, images, steps=steps, augment_probability="ada", ada_images=8, ada_target=0.01)
        assert same(base, {name: ada[name] for name in base}) == equal


@pytest.mark.parametrize("name", NAMES)
def test_a_strong_weight_holds_the_generator(name):
    gan, images = toy_gan(size=16, width=4, latent_dim=6), toy_images(size=16)
    plugin = find_plugin("regularizers", name)
    distances = []
    for weight in (0, 1e3 * plugin.weight):
        adaptation = attach("freezed", gan, images, steps=40, regularizer=name, regularizer_weight=weight)
        Loop(adaptation, images, Plan(), RunStore(None)).run()
        term = plugin.attach(adaptation.generator.requires_grad_(True), gan, plugin.Config())
        distances.append(term(torch.Generator().manual_seed(1), CPU).item())
    assert distances[1] < 0.5 * distances[0]


def test_mistakes_are_named():
    gan, images = toy_gan(), toy_images()
    with pytest.raises(ConfigError, match="did you mean ewc"):
        attach("freezed", gan, images, regularizer="ewcc")
    with pytest.raises(ConfigError, match="need regularizer="):
        attach("freezed", gan, images, regularizer_weight=1)
    with pytest.raises(ConfigError, match="no setting called image"):
        attach("freezed", gan, images, regularizer="cdc", regularizer_settings={"image": 3})
    with pytest.raises(MissingCapability, match="regularizer=ewc needs critic"):
        attach("transfergan", GAN(gan.generator), images, regularizer="ewc")
    with pytest.raises(ConfigError, match="transfer_generator"):
        attach("transfergan", gan, images, regularizer="ewc", transfer_generator=False)
    with pytest.raises(ConfigError, match="no setting called regularizer"):
        parse(find_plugin("methods", "scratch").Config, {"regularizer": "ewc"}, "scratch")
    with pytest.raises(ConfigError, match="scores have no|have no zero"):
        attach("freezed", gan.trained_with(WGAN_GP, gan.recipe), images, augment_probability="ada")
    with pytest.raises(ConfigError, match="nothing to apply"):
        attach("freezed", gan, images, augment_probability="ada", augment=[])
    with pytest.raises(ConfigError, match="augment_probability"):
        attach("freezed", gan, images, augment_probability=1.5)


def test_every_regularizer_says_what_it_is():
    for name in NAMES:
        plugin = find_plugin("regularizers", name)
        assert plugin.summary
        assert "arXiv" in plugin.paper
        assert plugin.weight > 0


def test_probability_1_is_plain_augmentation_and_0_is_none():
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    kinds = ("color", "translation", "cutout")
    rng = torch.Generator().manual_seed(1)
    plain, state = augment(x, kinds, rng), rng.get_state()
    rng = torch.Generator().manual_seed(1)
    assert torch.equal(augment(x, kinds, rng, 1.0), plain)
    assert torch.equal(rng.get_state(), state)
    assert torch.equal(augment(x, kinds, rng, 0.0), x)
    gan, images = toy_gan(), toy_images()
    assert same(trained("freezed", gan, images), trained("freezed", gan, images, augment_probability=1.0))
    off = trained("freezed", gan, images, augment=[])
    assert not same(trained("freezed", gan, images), off)


def test_images_are_augmented_one_by_one():
    x = torch.rand(4000, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    changed = augment(x, ("color",), torch.Generator().manual_seed(1), 0.3).ne(x).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.3, abs=0.03)
    x = x.requires_grad_()
    augment(x, ("color",), torch.Generator().manual_seed(1), 0.3).sum().backward()
    assert x.grad.isfinite().all()


def test_ada_moves_by_the_sign_once_an_interval_and_stays_between_0_and_1():
    ada = AdaptiveAugmentation(("color",), target=0.6, images=80, interval=4)
    for _ in range(3):
        ada.observe(torch.tensor([3.0, 1.0]))
        ada.after_step()
    assert ada.now == 0
    ada.observe(torch.tensor([0.5, -2.0]))
    ada.after_step()
    assert ada.sign.item() == pytest.approx(0.75)
    assert ada.now == pytest.approx(8 / 80)
    for _ in range(8):
        ada.observe(torch.tensor([1.0, -1.0]))
        ada.after_step()
    assert ada.now == 0
    for _ in range(100):
        ada.observe(torch.ones(4))
        ada.after_step()
    assert ada.now == 1


def test_adas_sign_reaches_its_target():
    """Eight images of the generator's own: the critic can tell them only by heart, and without augmentation it does."""
    gan = toy_gan("mlp", size=8, widths=(64,), latent_dim=6)
    pixels = ((gan.sample(8, seed=5) + 1) * 127.5).round().to(torch.uint8)
    images = dataclasses.replace(toy_images(8), pixels=pixels)
    objective = Objective(penalty="none")
    signs = {}
    for probability in (0.0, "ada"):
        config = AdversarialConfig(augment=("color", "translation", "cutout"), augment_probability=probability, ada_images=3000)
        critic = copy.deepcopy(gan.critic).requires_grad_(True)
        game = Game(gan.generator, critic, objective, Recipe(), config.augmentation(1))
        update = game.critic_update(Optimiser("critic", [(list(critic.parameters()), 1e-2)]))
        optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.0, 0.99))
        seen = []
        for step in range(300):
            rng = torch.Generator().manual_seed(step)
            batch = images.batch(torch.randint(8, (16,), generator=rng), rng, CPU)
            optimiser.zero_grad()
            loss, logs = update.loss(batch, rng)
            loss.backward()
            optimiser.step()
            update.after_step()
            with torch.no_grad():
                seen.append(critic(game.augment(batch.data, rng)).sign().mean().item())
        signs[probability] = sum(seen[-100:]) / 100
        if probability == "ada":
            assert 0.02 < game.augment.now < 1
            assert {"augment_probability", "real_sign"} <= logs.keys()
    assert signs[0.0] > 0.95
    assert signs["ada"] == pytest.approx(0.6, abs=0.1)


def test_adas_state_survives_a_stop_inside_its_interval(tmp_path):
    gan, images = toy_gan(), toy_images()
    settings = {"augment_probability": "ada", "ada_images": 40, "steps": 9}
    gan = gan.trained_with(HINGE, gan.recipe)
    whole = attach("freezed", gan, images, **settings)
    Loop(whole, images, Plan(accumulate=2), RunStore(tmp_path / "a")).run()
    stopped = attach("freezed", gan, images, **settings)
    loop = Loop(stopped, images, Plan(accumulate=2), RunStore(tmp_path / "b"))
    step = loop._step

    def stop(phase):
        loop._stop_requested = loop.position.total == 5
        step(phase)

    loop._step = stop
    with pytest.raises(Interrupted):
        loop.run()
    resumed = attach("freezed", gan, images, **settings)
    Loop(resumed, images, Plan(accumulate=2), RunStore(tmp_path / "b")).run(resume=True)
    for name, module in whole.modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, resumed.modules[name].state_dict()[key]), key
    assert whole.modules["augment"].steps > 0


def test_adapt_takes_them_from_settings(photos):
    run = regraft.adapt(photos, toy_gan(), method="freezed", steps=3, regularizer="cdc", augment_probability="ada", write=False)
    assert run.gan.sample(2).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_behind_a_miner_nothing_pulls_before_anything_is_learned(name):
    """Entering fine-tuning changes gains and shifts of norms, and no image: that is no distance from the source."""
    gan = toy_gan(size=16, width=4, latent_dim=6)
    gan = gan.trained_with(gan.objective, gan.recipe.model_copy(update={"generator_norm": "batch"}))
    plugin = find_plugin("regularizers", name)
    adaptation = attach("minegan", gan, toy_images(size=16), mining_steps=1, finetuning_steps=4, regularizer=name)
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
