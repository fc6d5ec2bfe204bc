"""Fine-tuning only the filters that matter."""

import pytest
import torch

from regraft.core.config import Recipe
from regraft.methods._sparse import FilterMasks
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.mining import attach_to_one
from support.running import run
from support.toys import toy_gan, toy_images


class TestSparse:
    def state(self, source, **settings):
        adaptation = attach_to_one(source, **settings)
        before = {k: v.clone() for k, v in adaptation.generator.source.named_parameters()}
        loop = run(adaptation, toy_images())
        return adaptation, before, {**loop.generator().state_dict(), **adaptation.critic.state_dict()}

    @pytest.mark.parametrize("name", ["dcgan", "mlp"])
    def test_all_filters_is_plain_finetuning_bit_for_bit(self, name):
        source = toy_gan(name)
        source = source.trained_with(source.objective, Recipe(batch=4, generator_norm="batch", ema_decay=0.9))
        _, _, plain = self.state(source)
        _, _, whole = self.state(source, sparse=1.0)
        assert plain.keys() == whole.keys()
        assert all(torch.equal(plain[k], whole[k]) for k in plain)

    def test_only_chosen_filters_move(self):
        adaptation, before, _ = self.state(toy_gan(), sparse=0.5)
        masks = adaptation.modules["masks"]
        moved_somewhere = False
        for name, now in adaptation.generator.source.named_parameters():
            mask, axis = masks.mask(f"source.{name}"), masks.axes[f"source.{name}"]
            moved = (now != before[name]).movedim(axis, 0).reshape(len(mask), -1).any(1)
            assert mask.sum() == -(-len(mask) // 2)
            assert not (moved & ~mask).any()
            moved_somewhere |= bool(moved.any())
        assert moved_somewhere

    def test_a_transposed_convolutions_filters_are_its_outputs(self):
        source = toy_gan()
        masks = FilterMasks(source.generator.requires_grad_(True), dict(source.generator.named_parameters()))
        transposed = [
            f"{name}.weight" for name, m in source.generator.named_modules() if isinstance(m, torch.nn.ConvTranspose2d)
        ]
        assert transposed
        assert all(masks.axes[name] == 1 for name in transposed)

    def test_importance_is_the_mean_squared_gradient(self):
        """A loss of known slope: of three rows the first and the last have the greatest."""
        layer = torch.nn.Linear(2, 3, bias=False)
        masks = FilterMasks(layer, {"weight": layer.weight})
        slope = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, -2.5]])
        masks.choose(0.6, lambda draws: (layer.weight * slope).sum(), 2, seed=0)
        assert masks.mask("weight").tolist() == [True, False, True]

    def test_stopped_and_resumed_keeps_its_choice(self, tmp_path):
        source = toy_gan()
        plan = Plan(checkpoint_every=5)
        first = attach_to_one(source, sparse=0.5, mining_steps=3, finetuning_steps=4)
        Loop(first, toy_images(), plan, RunStore(tmp_path / "a")).run()
        again = attach_to_one(source, sparse=0.5, mining_steps=3, finetuning_steps=4)
        loop = Loop(again, toy_images(), plan, RunStore(tmp_path / "a"))
        assert loop._load()
        for name, mask in first.modules["masks"].state_dict().items():
            assert torch.equal(mask, again.modules["masks"].state_dict()[name])
            assert not mask.all() or len(mask) == 1


def test_filters_of_which_nothing_is_known_stay_trainable():
    source = toy_gan().generator.requires_grad_(True)
    masks = FilterMasks(source, dict(source.named_parameters()))
    masks.choose(0.5, lambda rng: sum(p.sum() for p in source.parameters()) * 0, 2, 0)
    assert all(bool(masks.mask(name).all()) for name in masks.masked_parameters)
