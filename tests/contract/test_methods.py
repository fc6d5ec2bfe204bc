"""Every method found on disk keeps the contract, on a toy source, on the CPU, in seconds."""

import copy
import dataclasses

import pytest
import torch

from regraft.core import discover
from regraft.core.config import WGAN_GP, Objective, Recipe, parse
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.gan import GAN, Provenance, tensor_digest
from regraft.core.randomness import generator_at
from regraft.methods.base import Method
from regraft.runs import adapter
from regraft.training.observation import Observation
from support.plugins import find_plugin
from support.running import (
    STEPS,
    Watching,
    assert_same,
    attach,
    attached,
    moved_since,
    noting_gradients,
    parameters_of,
    run,
    settings_of,
    state_of,
    stop_and_resume,
    taken,
)
from support.toys import toy_family, toy_gan, toy_images

METHODS = discover.names("methods")


@pytest.fixture(params=["dcgan", "mlp"])
def source(request):
    """A toy source of each of two families, with an autoencoder."""
    return toy_gan(request.param, autoencoder=True)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_it_implements_known_hooks_and_flags_only(self, name):
        method = type(find_plugin("methods", name))
        own = {key for key in vars(method) if not key.startswith("_")}
        hooks = {"attach", "complete_config", "training", "lead", "rebuild", "finished"}
        assert own <= hooks | Method.__annotations__.keys()

    def test_source_is_untouched(self, name, source):
        before = {k: (v.clone(), v.requires_grad) for k, v in source.generator.named_parameters()}
        flags = [m.training for net in (source.generator, source.critic) for m in net.modules()]
        digests = tensor_digest(source.generator), tensor_digest(source.critic)
        adaptation, _ = attach(name, source, toy_images())
        run(adaptation, toy_images())
        assert digests == (tensor_digest(source.generator), tensor_digest(source.critic))
        assert flags == [m.training for net in (source.generator, source.critic) for m in net.modules()]
        assert all(p.requires_grad == before[k][1] for k, p in source.generator.named_parameters())

    def test_trainable_source_keeps_its_flags(self, name, source):
        """A module handed over from Python is often in training mode and trainable."""
        generator, critic = copy.deepcopy(source.generator), copy.deepcopy(source.critic)
        for network in (generator, critic):
            network.train().requires_grad_(True)
        theirs = GAN(generator, critic, autoencoder=source.autoencoder, objective=source.objective, recipe=source.recipe)
        digest = tensor_digest(generator)
        adaptation, _ = attach(name, theirs, toy_images())
        run(adaptation, toy_images())
        assert tensor_digest(generator) == digest
        assert all(m.training for m in generator.modules())
        assert all(p.requires_grad for p in generator.parameters())

    def test_what_is_declared_moves_and_nothing_else(self, name, source):
        adaptation = attached(name, source, toy_images())
        before = parameters_of(adaptation)
        run(adaptation, toy_images())
        assert moved_since(before, adaptation) == set(adaptation.trained())

    def test_a_loss_writes_no_buffer(self, name, source):
        """Running state changes after steps only."""
        adaptation, _ = attach(name, source, toy_images())

        def buffers():
            return {f"{m}.{k}": b.clone() for m, module in adaptation.modules.items() for k, b in module.named_buffers()}

        def watched(update):
            def loss(batch, rng):
                before = buffers()
                value = update.loss(batch, rng)
                assert_same(before, buffers())
                return value

            return dataclasses.replace(update, loss=loss)

        phases = [dataclasses.replace(p, updates=[watched(u) for u in p.updates]) for p in adaptation.phases]
        run(dataclasses.replace(adaptation, phases=phases), toy_images())

    def test_save_and_load_gives_the_same_images(self, name, source, tmp_path):
        if not find_plugin("methods", name).sources[1]:
            pytest.skip("makes sources, which are saved whole")
        adaptation, config = attach(name, source, toy_images())
        loop = run(adaptation, toy_images())
        generator = loop.generator().eval()
        info = adapter.AdapterInfo(
            name, config.model_dump(mode="json"), {"size": [8, 8], "channels": 1}, {"n": 12, "held_out": 0}, 0, STEPS
        )
        adapter.save_adapter(tmp_path / "a", generator, taken(name, source), info)
        fresh = toy_gan("mlp" if source.generator.kind == "mlp" else "dcgan", autoencoder=True)
        loaded = adapter.load_adapter(tmp_path / "a", taken(name, fresh))
        assert torch.equal(GAN(generator).sample(5, 3), loaded.sample(5, 3))

    def test_same_seed_same_run_and_global_random_state_untouched(self, name, source):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        states = []
        for _ in range(2):
            adaptation, _ = attach(name, source, toy_images(), seed=7)
            states.append(state_of(run(adaptation, toy_images(), seed=7)))
        assert_same(*states)
        assert torch.equal(state, torch.get_rng_state())
        assert torch.get_default_dtype() == torch.float32

    def test_other_seed_other_run(self, name, source):
        states = []
        for seed in (1, 2):
            adaptation, _ = attach(name, source, toy_images(), seed=seed)
            states.append(state_of(run(adaptation, toy_images(), seed=seed)))
        trains = bool(adaptation.trained())
        assert trains == any(not torch.equal(states[0][k], states[1][k]) for k in states[0])

    @pytest.mark.parametrize("stop_at", range(1, STEPS))
    def test_resume_equals_unbroken_run(self, name, source, tmp_path, stop_at):
        if not find_plugin("methods", name).Config.model_fields.get("steps"):
            pytest.skip("trains nothing, so it cannot be stopped")

        def observe(step, generator):
            value = float(GAN(generator).sample(2, 0).mean())
            return Observation({"mean": value}, best=step == 3, state={"last": value})

        whole = run(
            attached(name, source, toy_images()), toy_images(), tmp_path / "whole", observer=Watching(observe), accumulate=3
        )
        resumed = stop_and_resume(
            lambda: attached(name, source, toy_images()),
            toy_images(),
            tmp_path / "broken",
            stop_at,
            observer=lambda: Watching(observe),
            accumulate=3,
        )
        assert_same(state_of(whole), state_of(resumed))
        assert resumed.position == whole.position
        assert resumed.observer_state == whole.observer_state
        assert resumed.observer.loaded.keys() == {"last"}
        best = {name: store.load_best(3) for name, store in (("a", whole.store), ("b", resumed.store))}
        assert_same(best["a"], best["b"])

    def test_output_is_finite_and_of_the_right_shape(self, name, source):
        adaptation, _ = attach(name, source, toy_images())
        loop = run(adaptation, toy_images())
        images = GAN(loop.generator()).sample(3, 0)
        assert images.shape == (3, 1, 8, 8)
        assert images.dtype == torch.float32
        assert torch.isfinite(images).all()
        assert images.abs().max() <= 1

    def test_every_objective_trains(self, name, source):
        for loss in ("wgan", "nonsaturating", "hinge"):
            for penalty, every in (("none", 1), ("gradient", 1), ("r1", 1), ("r1", 2)):
                objective = Objective(loss=loss, penalty=penalty, penalty_every=every, critic_steps=2)
                adaptation, _ = attach(name, source.trained_with(objective, source.recipe), toy_images())
                loop = run(adaptation, toy_images())
                assert all(torch.isfinite(p).all() for p in loop.generator().parameters())

    def test_missing_critic_is_a_clear_error(self, name, source):
        method = find_plugin("methods", name)
        bare = GAN(source.generator)
        if method.needs:
            with pytest.raises(MissingCapability, match=f"{name} needs ({'|'.join(method.needs)}), and .* has none"):
                method.check(taken(name, bare), name)
        else:
            method.check(taken(name, bare), name)

    def test_a_source_without_critic_gets_a_new_one_that_learns_first(self, name):
        method = find_plugin("methods", name)
        if "warm_up" not in method.Config.model_fields:
            pytest.skip("trains no critic on images, so none has to be new")
        bare = GAN(toy_gan().generator, provenance=Provenance(name="bare"))
        bare = bare.trained_with(bare.objective, Recipe(batch=4, generator_norm="batch"))
        adaptation, config = attach(name, bare, toy_images(), warm_up=2)
        assert [p.name for p in adaptation.phases][0] == "warm-up"
        assert any("new one (bare has none); it learns alone for 2 steps" in note for note in adaptation.notes)
        before = {k: v.clone() for k, v in adaptation.generator.state_dict().items()}
        critic = {k: v.clone() for k, v in adaptation.critic.state_dict().items()}
        run(dataclasses.replace(adaptation, phases=adaptation.phases[:1]), toy_images())
        assert_same(before, adaptation.generator.state_dict())
        assert any(not torch.equal(critic[k], v) for k, v in adaptation.critic.state_dict().items())
        adaptation, _ = attach(name, bare, toy_images())
        assert adaptation.phases[0].steps == 200
        adaptation, _ = attach(name, bare, toy_images(), warm_up=0)
        assert adaptation.phases[0].name != "warm-up"

    def test_wrong_number_of_sources_is_a_clear_error(self, name, source):
        method = find_plugin("methods", name)
        least, most = method.sources
        for number in {least - 1, most + 1} - {-1}:
            with pytest.raises(ConfigError, match=name):
                method.check([source] * number, name)

    def test_labelled_images_and_conditional_source(self, name):
        source = toy_gan(n_classes=3, autoencoder=True)
        images = toy_images(labels=[k % 3 for k in range(12)])
        for data in (images, dataclasses.replace(images, labels=None, classes=())):
            adaptation, _ = attach(name, source, data)
            loop = run(adaptation, data)
            assert torch.isfinite(GAN(loop.generator()).sample(3, 0)).all()


OTHER_BACKBONES = [name for name in discover.names("backbones") if name not in ("dcgan", "mlp")]


def family_images(source):
    generator = source.generator
    side = max(generator.size)
    images = toy_images(n=6, size=side, channels=generator.channels)
    return dataclasses.replace(images, pixels=images.pixels[..., : generator.size[0], : generator.size[1]])


# Methods that make sources, or learn codes, do not touch a family's GAN; they have tests of their own.
ON_GANS = [name for name in METHODS if taken(name, 1) and "autoencoder" not in find_plugin("methods", name).needs]


@pytest.mark.parametrize("backbone", OTHER_BACKBONES)
@pytest.mark.parametrize("name", ON_GANS)
class TestEveryMethodOnEveryFamily:
    """What must hold whatever the networks are; two steps each, for families can be slow.  Above, two families get it all."""

    @pytest.fixture(autouse=True)
    def _made(self, backbone):
        self.source = toy_family(backbone)
        self.images = family_images(self.source)
        self.few = {"steps": 2, "mining_steps": 1, "warm_up": 0}

    def attached(self, name):
        fields = find_plugin("methods", name).Config.model_fields
        return attach(name, self.source, self.images, **{k: v for k, v in self.few.items() if k in fields})

    def test_source_is_untouched_and_only_what_is_declared_moves(self, name, backbone):
        """Of what is declared, only that stays for which neither step had a gradient, as attention of weight 0 has none."""
        networks = [n for n in (self.source.generator, self.source.critic) if n is not None]
        digests = [tensor_digest(n) for n in networks]
        flags = [m.training for n in networks for m in n.modules()]
        adaptation, reached = noting_gradients(self.attached(name)[0])
        before = parameters_of(adaptation)
        loop = run(adaptation, self.images)
        assert digests == [tensor_digest(n) for n in networks]
        assert flags == [m.training for n in networks for m in n.modules()]
        assert moved_since(before, adaptation) == reached <= set(adaptation.trained())
        assert bool(reached) == bool(adaptation.trained())
        images = GAN(loop.generator()).sample(2, 0)
        assert images.shape[1:] == (self.source.generator.channels, *self.source.generator.size)
        assert torch.isfinite(images).all()

    def test_trains_in_bfloat16(self, name, backbone):
        for objective in (self.source.objective, WGAN_GP):
            self.source = self.source.trained_with(objective, self.source.recipe)
            adaptation, _ = self.attached(name)
            loop = run(adaptation, self.images, precision="bfloat16")
            assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in loop.generator().parameters())

    def test_save_load_and_resume(self, name, backbone, tmp_path):
        adaptation, config = self.attached(name)
        whole = run(adaptation, self.images, tmp_path / "whole")
        generator = whole.generator().eval()
        size, channels = list(self.source.generator.size), self.source.generator.channels
        info = adapter.AdapterInfo(
            name, config.model_dump(mode="json"), {"size": size, "channels": channels}, {"n": 6, "held_out": 0}, 0, 2
        )
        adapter.save_adapter(tmp_path / "a", generator, [self.source], info)
        loaded = adapter.load_adapter(tmp_path / "a", [toy_family(backbone)])
        assert torch.equal(GAN(generator).sample(2, 3), loaded.sample(2, 3))
        if adaptation.phases:
            resumed = stop_and_resume(lambda: self.attached(name)[0], self.images, tmp_path / "broken", 1)
            assert_same(state_of(whole), state_of(resumed))


SEVERAL = [name for name in METHODS if find_plugin("methods", name).sources[1] > 1]


def two_sources():
    return [toy_gan(), toy_gan("mlp", seed=1)]


def attach_two(name, sources, seed=0):
    method = find_plugin("methods", name)
    config = method.complete_config(parse(method.Config, settings_of(name), name), sources, 0, seed)
    return method.attach(sources, toy_images(), config, generator_at(seed, "init")), config


@pytest.mark.parametrize("name", SEVERAL)
class TestEveryMethodOfSeveralSources:
    def test_sources_are_untouched_and_only_declared_parameters_move(self, name):
        sources = two_sources()
        digests = [tensor_digest(s.generator, s.critic) for s in sources]
        flags = [m.training for s in sources for net in (s.generator, s.critic) for m in net.modules()]
        adaptation, _ = attach_two(name, sources)
        before = parameters_of(adaptation)
        run(adaptation, toy_images())
        assert digests == [tensor_digest(s.generator, s.critic) for s in sources]
        assert flags == [m.training for s in sources for net in (s.generator, s.critic) for m in net.modules()]
        assert moved_since(before, adaptation) == set(adaptation.trained())

    def test_save_and_load_gives_the_same_images(self, name, tmp_path):
        sources = two_sources()
        adaptation, config = attach_two(name, sources)
        generator = run(adaptation, toy_images()).generator().eval()
        image = {"size": list(generator.size), "channels": generator.channels}
        info = adapter.AdapterInfo(name, config.model_dump(mode="json"), image, {"n": 12, "held_out": 0}, 0, STEPS)
        adapter.save_adapter(tmp_path / "a", generator, sources, info)
        loaded = adapter.load_adapter(tmp_path / "a", two_sources())
        assert torch.equal(GAN(generator).sample(9, 3), loaded.sample(9, 3))

    def test_same_seed_same_run(self, name):
        states = []
        for _ in range(2):
            state = torch.get_rng_state()
            adaptation, _ = attach_two(name, two_sources(), seed=7)
            states.append(state_of(run(adaptation, toy_images(), seed=7)))
            assert torch.equal(state, torch.get_rng_state())
        assert_same(*states)

    @pytest.mark.parametrize("stop_at", range(1, STEPS))
    def test_resume_equals_unbroken_run(self, name, tmp_path, stop_at):
        def make():
            return attach_two(name, two_sources())[0]

        whole = run(make(), toy_images(), tmp_path / "whole", accumulate=3)
        resumed = stop_and_resume(make, toy_images(), tmp_path / "broken", stop_at, accumulate=3)
        assert_same(state_of(whole), state_of(resumed))

    def test_every_objective_trains(self, name):
        for loss in ("wgan", "nonsaturating", "hinge"):
            for penalty, every in (("none", 1), ("gradient", 1), ("gradient", 2), ("r1", 2)):
                objective = Objective(loss=loss, penalty=penalty, penalty_every=every, critic_steps=2)
                adaptation, _ = attach_two(name, [s.trained_with(objective, s.recipe) for s in two_sources()])
                loop = run(adaptation, toy_images())
                assert all(torch.isfinite(p).all() for p in loop.generator().parameters())
