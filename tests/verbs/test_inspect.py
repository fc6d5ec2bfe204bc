"""What ``inspect`` says of a source."""

import regraft
from support.toys import toy_gan


def test_inspect_says_what_matters(source_folder):
    facts = regraft.inspect(source_folder)
    assert facts["backbone"] == "dcgan"
    assert facts["latent"]["dim"] == 6
    assert facts["image"] == {"height": 8, "width": 8, "channels": 1}
    assert facts["generator_values"] == sum(p.numel() for p in toy_gan().generator.parameters())
