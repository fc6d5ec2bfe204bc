"""Adaptive augmentation: how its probability moves, and the method itself where it is 0."""

import copy
import dataclasses

import pytest
import torch

from regraft.core.config import HINGE, Objective, Recipe
from regraft.methods._adversarial import AdversarialConfig, Game
from regraft.training.ada import AdaptiveAugmentation
from regraft.training.updates import Optimiser
from support.running import assert_same, attached, run, same, state_of, stop_and_resume, trained
from support.toys import toy_gan, toy_images


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


CPU = torch.device("cpu")
METHODS = ("freezed", "transfergan", "minegan")


def test_adas_state_survives_a_stop_inside_its_interval(tmp_path):
    gan, images = toy_gan(), toy_images()
    settings = {"augment_probability": "ada", "ada_images": 40, "steps": 9}
    gan = gan.trained_with(HINGE, gan.recipe)

    def make():
        return attached("freezed", gan, images, **settings)

    whole = run(make(), images, tmp_path / "a", accumulate=2)
    resumed = stop_and_resume(make, images, tmp_path / "b", 6, accumulate=2)
    assert_same(state_of(whole), state_of(resumed))
    assert whole.adaptation.modules["augment"].steps > 0


@pytest.mark.parametrize("method", METHODS)
def test_ada_at_probability_0_is_the_method_itself_bit_for_bit(method):
    """It first moves after four steps of the critic."""
    gan, images = toy_gan(size=16, width=4, latent_dim=6), toy_images(size=16)
    for steps, equal in ((3, True), (12, False)):
        base = trained(method, gan, images, steps=steps, augment=[])
        ada = trained(method, gan, images, steps=steps, augment_probability="ada", ada_images=8, ada_target=0.01)
        assert same(base, {name: ada[name] for name in base}) == equal


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
