"""Every reference checkpoint can be trained on: fifty critic steps lower the critic's loss on a fixed batch."""

import dataclasses

import pytest
import torch

import regraft
from regraft.core.config import parse
from regraft.core.networks import evaluating
from regraft.core.randomness import generator_at
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from regraft.training.objectives import critic_loss
from support.plugins import find_plugin
from support.toys import toy_images

FILES = {
    "stylegan2ada_uncond": "network-snapshot.pkl",
    "stylegan3_t": "network-snapshot.pkl",
    "rosinality_narrow64": "550000.pt",
    "biggan_hier64_mybn": "",
    "biggan_hf_deep128": "",
    "progan_zoo_64": "celebaHQ_s4_i80000.pth",
    "mimicry_sngan32": "netG_100_steps.pth",
    "mimicry_wgangp32": "netG_100_steps.pth",
    "studiogan_sngan32": "",
    "transfergan_uncond": "wgan-gp.model.index",
    "alae_mnist32": "model_final.pth",
    "dcgan_mnist28": "netG_epoch_99.pth",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_fifty_steps_lower_the_critics_loss(shared, name):
    folder = shared / "reference" / name
    gan = regraft.load(folder / FILES[name] if FILES[name] else folder)
    gan = gan.trained_with(gan.objective, gan.recipe.model_copy(update={"batch": 4}))
    generator = gan.generator
    images = toy_images(4, max(generator.size), generator.channels)
    method = find_plugin("methods", "transfergan")
    config = parse(method.Config, {"steps": 1, "warm_up": 50, "augment": []}, "test")
    adaptation = method.attach([gan], images, config, generator_at(0, "init"))
    assert adaptation.phases[0].name == "warm-up"
    fake = gan.sample(4, 7)

    def loss():
        with torch.no_grad(), evaluating(adaptation.critic):
            return critic_loss(gan.objective, adaptation.critic(images.tensor()), adaptation.critic(fake)).item()

    before = loss()
    Loop(dataclasses.replace(adaptation, phases=adaptation.phases[:1]), images, Plan(), RunStore(None)).run()
    assert loss() < before
