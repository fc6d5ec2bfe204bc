"""The smallest adaptation that trains anything: one weight."""

import torch
from torch import nn

from regraft.training.updates import Adaptation, Optimiser, Phase, Update
from support.toys import toy_gan


def one_weight(loss=None, steps=5, batch=4, decay=0.0, **how):
    """One weight pulled to the data's mean."""
    generator = toy_gan().generator
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(3.0)

    def pull(batch, rng):
        value = (module.weight - batch.data.mean((1, 2, 3))).square().mean()
        return value, {"pull": value.detach()}

    optimiser = Optimiser("one", [(list(module.parameters()), 0.1)], **how)
    phase = Phase("only", [Update("pull", [optimiser], loss or pull)], steps)
    return Adaptation(
        generator, None, [phase], {"generator": generator, "weight": module}, averaged=("weight",), ema_decay=decay, batch=batch
    )


def with_loss(made, loss):
    """The same adaptation with another loss."""
    update = made.phases[0].updates[0]
    phase = Phase("only", [Update("other", update.optimisers, loss)], made.phases[0].steps)
    return Adaptation(made.generator, None, [phase], made.modules, averaged=made.averaged, ema_decay=0.0, batch=made.batch)
