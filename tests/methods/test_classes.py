"""How methods that learn classes begin, and which of their parameters learn faster."""

from regraft.methods import _classes
from regraft.methods._classes import LabelledConfig
from support.toys import toy_gan


def test_new_class_tables_learn_faster_and_nothing_else():
    """Neither the inputs that a one-hot class adds, nor a layer that happens to be as wide as there are classes."""
    config = LabelledConfig()
    plain, n = toy_gan(size=16, width=4, latent_dim=6), 4  # the last block has four channels
    for how, wanted in (("norm", {"gain", "shift"}), ("concat", {"classes"})):
        made = _classes.conditioned(plain.generator, n, how)
        found = _classes.groups(made, plain.generator, 1.0, config, n)
        fast = {id(p) for p in found[1][0]} if len(found) > 1 else set()
        assert {k.rpartition(".")[2] for k, p in made.named_parameters() if id(p) in fast} == wanted
