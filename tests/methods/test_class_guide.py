"""The guide that draws mined classes to those of the targets."""

import pytest
import torch

from regraft.composites.mined import MinerConfig, with_miners
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.mining import attach_to_one, conditional
from support.toys import rng, toy_gan, toy_images


def test_the_guide_draws_mined_classes_to_the_targets():
    """With the critic's part left out, what is asked for becomes what is wanted."""
    from regraft.methods._class_guide import ClassGuide

    source = toy_gan(n_classes=3)
    for form in ("onehot", "embedding"):
        with torch.no_grad():
            for norm in source.generator.norms:
                if hasattr(norm, "gain"):
                    norm.gain.copy_(torch.randn(norm.gain.shape, generator=rng(1)))
                    norm.shift.copy_(torch.randn(norm.shift.shape, generator=rng(2)))
        made = with_miners(MinerConfig(classes=form), source.generator).requires_grad_(True)
        made.initialise(rng())
        guide = ClassGuide(made, made.class_miner, source.critic, source.recipe, 1.0)
        assert guide.gap(rng(), torch.device("cpu")).item() == 0
        guide.target_shares.shares.copy_(torch.tensor([0.7, 0.3, 0.0]))
        guide.target_shares.steps.fill_(1)
        optimiser = torch.optim.Adam(made.class_miner.parameters(), lr=2e-2)
        for step in range(150):
            optimiser.zero_grad()
            guide.gap(rng(step), torch.device("cpu")).backward()
            optimiser.step()
        assert made.class_miner.weights(made.latent.sample(2000, rng(1)), source.generator).mean(0).tolist() == pytest.approx(
            [0.7, 0.3, 0.0], abs=0.05
        )


def test_without_a_guide_or_with_many_classes_there_is_none():
    from regraft.methods._class_guide import class_guide

    source = toy_gan(n_classes=40)
    made = with_miners(MinerConfig(), source.generator)
    assert class_guide(made, source.critic, source.recipe, 1.0) is None
    few = with_miners(MinerConfig(), toy_gan(n_classes=3).generator)
    assert class_guide(few, source.critic, source.recipe, 0.0) is None
    assert "classes" in attach_to_one(conditional()).modules
    assert "classes" not in attach_to_one(conditional(), miner={"class_weight": 0.0}).modules


def test_targets_are_counted_once_a_step_however_a_batch_is_computed():
    seen = []
    for parts in (1, 4):
        adaptation = attach_to_one(conditional())
        Loop(adaptation, toy_images(), Plan(accumulate=parts), RunStore(None)).run()
        seen.append(int(adaptation.modules["classes"].steps))
    assert seen[0] == seen[1] == 6
