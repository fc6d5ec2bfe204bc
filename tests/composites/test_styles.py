"""Which composite generators show styles, and whose they are."""

import copy

import pytest
import torch

from regraft.composites.mined import MinerConfig, with_miners
from regraft.composites.mixed import MixedGenerator
from regraft.composites.scaled import ScaledGenerator, ScalingConfig
from regraft.core.latent import Latent
from regraft.core.wrap import ModuleGenerator
from support.toys import toy_gan


def mined(backbone, **settings):
    made = with_miners(MinerConfig(), toy_gan(backbone, **settings).generator).requires_grad_(True)
    made.initialise(torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("backbone", ["stylegan2", "stylegan3", "alae"])
def test_styles_behind_a_miner_start_from_its_own_input(backbone):
    made = mined(backbone)
    torch.nn.init.normal_(made.miner.layers[-1].weight)
    u = made.latent.at(0, range(3))
    w = made.styles.mapping(u, None)
    assert torch.equal(w, made.source.styles.mapping(made.miner(u), None))
    assert torch.equal(made.styles.synthesis(w, "const", None), made(u))
    assert made.styles.mean is made.source.mapping.w_avg


def test_a_copy_shows_styles_of_its_own():
    made = mined("stylegan2")
    names = set(made.state_dict())
    original = made.styles
    copied = copy.deepcopy(made)
    own = {id(p) for p in copied.parameters()}
    assert {id(p) for p in copied.styles.synthesis.parameters()} <= own
    u = made.latent.at(0, range(2))
    before = original.mapping(u, None)
    with torch.no_grad():
        for p in copied.parameters():
            p.add_(1)
    assert torch.equal(original.mapping(u, None), before)
    assert not torch.equal(copied.styles.mapping(u, None), before)
    assert set(made.state_dict()) == names


def test_generators_that_show_none():
    source = toy_gan("stylegan2").generator
    assert ScaledGenerator(copy.deepcopy(source), ScalingConfig()).styles is None
    assert MixedGenerator([mined("stylegan2"), mined("dcgan")], (8, 8), 1).styles is None
    assert mined("dcgan").styles is None
    assert ModuleGenerator(toy_gan("dcgan").generator, Latent(source.latent.dim)).styles is None
