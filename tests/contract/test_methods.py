"""Every method found on disk keeps the contract, on a toy source, on the CPU, in seconds."""

import copy
import dataclasses

import pytest
import torch

from conftest import toy_gan, toy_images
from regraft import adapter, discover
from regraft.config import Objective, parse
from regraft.errors import ConfigError, Interrupted, MissingCapability
from regraft.gan import GAN, tensor_digest
from regraft.observation import Observation
from regraft.randomness import generator_at
from regraft.store import RunStore
from regraft.train import Loop, Plan

METHODS = discover.names("methods")
STEPS = 6


def settings_of(name):
    """Few steps; the rest as a user gets it."""
    method = discover.plugin("methods", name)
    fields = method.Config.model_fields
    given = {"steps": STEPS} if "steps" in fields else {}
    given |= {"mining_steps": 2} if "mining_steps" in fields else {}
    if method.sources[1] == 0:
        smallest = dict(discover.plugin("backbones", method.backbone).smallest)
        given |= {"size": smallest.pop("size"), "channels": 1, "backbone_settings": smallest}
    return given


def attach(name, source, images, seed=0, **settings):
    method = discover.plugin("methods", name)
    config = parse(method.Config, settings_of(name) | settings, name)
    return method.attach(taken(name, source), images, config, generator_at(seed, "init")), config


def taken(name, source):
    """The sources that a method takes: none if it makes them."""
    return [source] if discover.plugin("methods", name).sources[1] else []


def run(adaptation, images, folder=None, resume=False, seed=0, observe=None, accumulate=1, **plan):
    plan = {"observe_every": 3 if observe else 0, "checkpoint_every": 1000, **plan}
    loop = Loop(adaptation, images, Plan(seed=seed, accumulate=accumulate, **plan), RunStore(folder), observe)
    loop.run(resume)
    return loop


def state_of(loop):
    tensors = {f"{m}.{k}": v.clone() for m, module in loop.adaptation.modules.items() for k, v in module.state_dict().items()}
    return tensors | {f"average.{k}": v.clone() for k, v in loop.generator().state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(params=["dcgan", "mlp"])
def source(request):
    return toy_gan(request.param, autoencoder=True)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
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

    def test_only_declared_parameters_move(self, name, source):
        adaptation, _ = attach(name, source, toy_images())
        before = {f"{m}.{k}": p.clone() for m, module in adaptation.modules.items() for k, p in module.named_parameters()}
        declared = set(adaptation.trained())
        run(adaptation, toy_images())
        after = {f"{m}.{k}": p for m, module in adaptation.modules.items() for k, p in module.named_parameters()}
        moved = {k for k in before if not torch.equal(before[k], after[k])}
        assert moved <= declared
        if declared:
            # Every declared tensor gets a gradient in six steps of this toy, but for a bias before a batch norm.
            assert len(moved) >= 0.6 * len(declared)

    def test_training_writes_no_buffer(self, name, source):
        adaptation, _ = attach(name, source, toy_images())
        # Growth counts its steps, after each.
        watched = {m: module for m, module in adaptation.modules.items() if m != "growth"}
        before = {f"{m}.{k}": b.clone() for m, module in watched.items() for k, b in module.named_buffers()}
        run(adaptation, toy_images())
        after = {f"{m}.{k}": b for m, module in watched.items() for k, b in module.named_buffers()}
        assert_same(before, after)

    def test_save_and_load_gives_the_same_images(self, name, source, tmp_path):
        if not discover.plugin("methods", name).sources[1]:
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
        if not discover.plugin("methods", name).Config.model_fields.get("steps"):
            pytest.skip("trains nothing, so it cannot be stopped")

        def observe(step, generator):
            value = float(GAN(generator).sample(2, 0).mean())
            return Observation({"mean": value}, best=step == 3, state={"last": value})

        adaptation, _ = attach(name, source, toy_images())
        whole = run(adaptation, toy_images(), tmp_path / "whole", observe=observe, accumulate=3)

        adaptation, _ = attach(name, source, toy_images())
        plan = Plan(accumulate=3, observe_every=3, checkpoint_every=1000)
        stopped = Loop(adaptation, toy_images(), plan, RunStore(tmp_path / "broken"), observe)
        stop_inside(stopped, stop_at)
        with pytest.raises(Interrupted):
            stopped.run()
        adaptation, _ = attach(name, source, toy_images())
        resumed = run(adaptation, toy_images(), tmp_path / "broken", resume=True, observe=observe, accumulate=3)
        assert_same(state_of(whole), state_of(resumed))
        assert resumed.position == whole.position
        assert resumed.observer_state == whole.observer_state
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
        method = discover.plugin("methods", name)
        bare = GAN(source.generator)
        if method.needs:
            with pytest.raises(MissingCapability, match=f"{name} needs ({'|'.join(method.needs)}), and .* has none"):
                method.check(taken(name, bare), name)
        else:
            method.check(taken(name, bare), name)

    def test_wrong_number_of_sources_is_a_clear_error(self, name, source):
        method = discover.plugin("methods", name)
        if method.sources[1] < 3:
            with pytest.raises(ConfigError, match=name):
                method.check([source] * 3, name)

    def test_labelled_images_and_conditional_source(self, name):
        source = toy_gan(n_classes=3, autoencoder=True)
        images = toy_images(labels=[k % 3 for k in range(12)])
        for data in (images, dataclasses.replace(images, labels=None, classes=())):
            adaptation, _ = attach(name, source, data)
            loop = run(adaptation, data)
            assert torch.isfinite(GAN(loop.generator()).sample(3, 0)).all()


def stop_inside(loop, step):
    """Ask for a stop while a step is being computed, as a signal would."""
    enter = loop._step

    def wrapped(phase):
        if loop.position.total == step - 1:
            loop._stop_requested = True
        enter(phase)

    loop._step = wrapped
