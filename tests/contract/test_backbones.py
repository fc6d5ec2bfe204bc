"""Every backbone found on disk keeps the contract of generators and critics."""

import contextlib
import json

import pytest
import torch

from regraft.core import discover
from regraft.core.build import build_fresh, build_with
from regraft.core.errors import ConfigError, MissingCapability, SourceError
from regraft.core.gan import tensor_digest
from regraft.core.networks import ClassCode, Description, evaluating
from support.plugins import find_plugin
from support.toys import toy_gan

BACKBONES = discover.names("backbones")


@pytest.fixture(params=[0, 3], ids=["unconditional", "conditional"])
def classes(request, name):
    """Number of classes: none, and three where the family has a conditional form."""
    if request.param and not find_plugin("backbones", name).conditional:
        pytest.skip(f"{name} has no conditional form")
    return request.param


def labels(generator, n):
    return torch.arange(n) % generator.n_classes if generator.n_classes else None


def noting(seen, k):
    return lambda module, inputs, output: seen.append(k)


@pytest.mark.parametrize("name", BACKBONES)
class TestEveryBackbone:
    def test_images_and_scores(self, name, classes):
        gan = toy_gan(name, n_classes=classes)
        g, d = gan.generator, gan.critic
        z = g.latent.at(0, range(5))
        images = g(z, labels(g, 5))
        assert images.shape == (5, g.channels, *g.size)
        assert torch.isfinite(images).all()
        scores = d(images, labels(g, 5))
        assert scores.shape == (5,)
        assert d(images).shape == (5,)
        assert scores.std() > 0

    def test_constant_noise_is_deterministic_and_rows_are_independent(self, name, classes):
        g = toy_gan(name, n_classes=classes).generator
        z, y = g.latent.at(0, range(6)), labels(g, 6)
        with evaluating(g):  # outside, some families use the statistics of the batch
            whole = g(z, y)
            assert torch.equal(whole, g(z, y))
            parts = torch.cat([g(z[k : k + 1], None if y is None else y[k : k + 1]) for k in range(6)])
        assert (whole - parts).abs().max() < 1e-5

    def test_styles_are_the_two_halves_of_the_generator(self, name, classes):
        g = toy_gan(name, n_classes=classes).generator
        if g.styles is None:
            assert not g.style_path
            return
        z, y = g.latent.at(0, range(3)), labels(g, 3)
        assert torch.equal(g.styles.synthesis(g.styles.mapping(z, y), "const", None), g(z, y))
        assert g.styles.mean.shape[-1] == g.styles.mapping(z, y).shape[-1]

    def test_random_noise_follows_its_generator(self, name, classes):
        g = toy_gan(name, n_classes=classes).generator
        z, y = g.latent.at(0, range(2)), labels(g, 2)
        a, b = (g(z, y, noise="random", rng=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(a, b)

    def test_truncation_to_nothing_makes_one_image(self, name, classes):
        g = toy_gan(name, n_classes=classes).generator
        y = None if not classes else torch.zeros(3, dtype=torch.long)
        images = g(g.latent.at(0, range(3)), y, psi=0.0)
        assert torch.allclose(images[0], images[1], atol=1e-6)
        assert torch.equal(g(g.latent.at(0, range(3)), y, psi=1.0), g(g.latent.at(0, range(3)), y))

    def test_description_survives_json_and_builds_the_same_network(self, name, classes):
        gan = toy_gan(name, n_classes=classes)
        for network in (gan.generator, gan.critic):
            d = network.describe()
            again = Description(d.kind, d.role, json.loads(json.dumps(d.config)))
            built = build_with(again, network.state_dict(), "test")
            assert tensor_digest(built) == tensor_digest(network)
            assert built.describe() == d

    def test_fresh_networks_follow_their_seed_and_draw_nothing_global(self, name, classes):
        description = toy_gan(name, n_classes=classes).generator.describe()
        state = torch.get_rng_state()
        digests = [tensor_digest(build_fresh(description, seed)) for seed in (1, 1, 2)]
        assert digests[0] == digests[1] != digests[2]
        assert torch.equal(state, torch.get_rng_state())

    def test_wrong_tensors_are_refused(self, name, classes):
        network = toy_gan(name, n_classes=classes).critic
        tensors = network.state_dict()
        first = next(iter(tensors))
        for changed, message in (
            ({k: v for k, v in tensors.items() if k != first}, "missing"),
            (tensors | {"surprise": torch.zeros(1)}, "not used"),
            (tensors | {first: torch.zeros(1, 2, 3, 4, 5)}, "wrong shape"),
        ):
            with pytest.raises(SourceError, match=message):
                build_with(network.describe(), changed, "test")

    def test_gradients_reach_every_parameter(self, name, classes):
        gan = toy_gan(name, n_classes=classes)
        g, d = gan.generator.requires_grad_(True), gan.critic.requires_grad_(True)
        y = labels(g, 4)
        images = g(g.latent.at(0, range(4)), y, noise="random", rng=torch.Generator().manual_seed(0))
        score = d(images, y).sum()
        with contextlib.suppress(MissingCapability):
            score = score + d.classify(images).square().sum()
        score.backward()
        for network in (g, d):
            for key, parameter in network.named_parameters():
                assert parameter.grad is not None, key

    def test_stages_cover_the_network_in_order(self, name, classes):
        gan = toy_gan(name, n_classes=classes)
        for network, first in ((gan.generator, gan.generator.latent.at(0, range(2))), (gan.critic, gan.sample(2))):
            seen = []
            hooks = [s.register_forward_hook(noting(seen, k)) for k, s in enumerate(network.stages)]
            y = labels(gan.generator, 2)
            network(first, y)
            for hook in hooks:
                hook.remove()
            assert seen == list(range(len(network.stages)))
            assert len(seen) >= 2

    @pytest.mark.parametrize("how", ["norm", "concat"])
    def test_with_classes_starts_as_the_same_generator(self, name, how):
        g = toy_gan(name).generator
        if how == "norm" and not g.norms:
            with pytest.raises(MissingCapability):
                g.with_classes(4, how)
            return
        if how not in g.conditionings:
            with pytest.raises(MissingCapability):
                g.with_classes(4, how)
            return
        conditional = g.with_classes(4, how)
        assert conditional.conditionings == ()
        z = g.latent.at(0, range(4))
        for y in range(4):
            made = conditional(z, torch.full((4,), y))
            assert torch.allclose(made, g(z), atol=1e-6)
        assert conditional.n_classes == 4

    def test_exchanged_classes_are_mixtures_of_the_old(self, name):
        if not find_plugin("backbones", name).conditional:
            pytest.skip(f"{name} has no conditional form")
        g = toy_gan(name, n_classes=3).generator
        rng = torch.Generator().manual_seed(0)
        for parameter in g.parameters():  # tables of fresh networks may hold the same row for every class
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        weights = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0.2, 0.3, 0.5], [0.0, 0, 1], [0, 0.5, 0.5]])
        for n in (5, 3, 2):
            try:
                made = g.with_class_mix(weights[:n])
            except MissingCapability:
                pytest.skip(f"{name} cannot exchange classes")
            z = g.latent.at(0, range(n))
            with evaluating(g, made):
                assert torch.allclose(made(z, torch.arange(n)), g(z, g.embed(weights[:n])), atol=1e-5)
            assert made.n_classes == n
            assert build_with(made.describe(), made.state_dict(), "test").n_classes == n
        with pytest.raises(MissingCapability):
            toy_gan(name).generator.with_class_mix(weights)

    @pytest.mark.parametrize("head", ["auto", "auxiliary", "projection"])
    def test_critic_gets_classes_without_changing_its_scores(self, name, classes, head):
        d = toy_gan(name, n_classes=classes).critic
        try:
            made = d.with_classes(4, seed=3, head=head)
        except MissingCapability:
            pytest.skip(f"{name} critics have no such class head ({head})")
        assert head == "auto" or made.classifies == (head == "auxiliary")
        x = torch.randn(4, d.channels, *d.size, generator=torch.Generator().manual_seed(0))
        y = torch.arange(4)
        assert torch.allclose(made(x), d(x), atol=1e-5)
        assert made.n_classes == 4
        assert torch.isfinite(made(x, y)).all()
        again = d.with_classes(4, seed=3, head=head)
        assert tensor_digest(again) == tensor_digest(made)
        assert tensor_digest(build_with(made.describe(), made.state_dict(), "test")) == tensor_digest(made)
        made.requires_grad_(True)
        loss = made(x, y).sum()
        if made.classifies:
            scores, logits = made.score_and_classify(x)
            assert logits.shape == (4, 4)
            assert torch.equal(logits, made.classify(x))
            assert torch.allclose(scores, made(x), atol=1e-6)
            loss = loss + torch.nn.functional.cross_entropy(logits, y)
        else:
            with pytest.raises(MissingCapability):
                made.classify(x)
        loss.backward()
        assert all(p.grad is not None for p in made.parameters())

    def test_classes_mix(self, name):
        if not find_plugin("backbones", name).conditional:
            with pytest.raises(ConfigError, match="class"):
                toy_gan(name, n_classes=3)
            return
        g = toy_gan(name, n_classes=3).generator
        z = g.latent.at(0, range(2))
        by_index = g(z, torch.tensor([2, 0]))
        assert torch.allclose(g(z, g.embed(torch.tensor([2, 0]))), by_index, atol=1e-6)
        soft = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
        assert torch.allclose(g(z, g.embed(soft)), by_index, atol=1e-6)
        code = g.embed(torch.tensor([[0.3, 0.3, 0.4]]).expand(2, -1))
        assert isinstance(code, ClassCode)
        assert torch.isfinite(g(z, code)).all()
        with pytest.raises(MissingCapability):
            toy_gan(name).generator.embed(torch.tensor([0]))

    def test_second_derivatives_exist(self, name, classes):
        d = toy_gan(name, n_classes=classes).critic.requires_grad_(True)
        x = torch.randn(2, d.channels, *d.size, requires_grad=True)
        (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in d.parameters())

    def test_unknown_settings_are_named(self, name, classes):
        with pytest.raises(ConfigError, match="no backbone setting called wdth"):
            find_plugin("backbones", name).default_configs(8, 1, wdth=3)

    def test_evaluation_mode_is_put_back(self, name, classes):
        g = toy_gan(name, n_classes=classes).generator.train()
        flags = [m.training for m in g.modules()]
        with evaluating(g):
            assert not any(m.training for m in g.modules())
        assert flags == [m.training for m in g.modules()]
