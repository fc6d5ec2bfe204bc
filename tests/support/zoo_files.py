"""pytorch_GAN_zoo's files, whose settings are an object of the repository's class."""

import contextlib
import sys
import types

import torch

from regraft.formats.base import BaseConfig
from support.resnet_files import Keys

MODULE = "models.utils.config"


@contextlib.contextmanager
def zoo_modules():
    """The module that the files name, for as long as one is written."""
    names = ("models", "models.utils", MODULE)
    made = {name: types.ModuleType(name) for name in names}
    made[MODULE].BaseConfig = BaseConfig
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def zoo_run(folder, settings, generator, critic, zipped=True, averaged=None, wrap=lambda t: t):
    """Write a file as the repository does."""
    config = BaseConfig()
    vars(config).update({"leakyReluLeak": 0.2, "lossCriterion": "WGANGP", "alpha": 0.0, "categoryVectorDim": 0} | settings)
    content = {"config": config, "netG": wrap(dict(generator)), "netD": wrap(dict(critic))}
    if averaged is not None:
        content["avgG"] = wrap(dict(averaged))
    path = folder / "net_s2_i100.pth"
    with zoo_modules():
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def zoo_dcgan(seed=1):
    """Generator and critic of 16 px."""
    g, d = Keys(seed), Keys(seed + 1)
    g.weight("formatLayer", 5, 8, 4, 4, bias=False)
    d.weight("main.convTranspose1", 4, 3, 4, 4, bias=False)
    d.weight("main.convTranspose0", 8, 4, 4, 4, bias=False)
    d.norm("main.batchNorm0", 8)
    d.weight("decisionLayer", 1, 8, 4, 4, bias=False)
    g.norm("main.batchNorm0", 8)
    g.weight("main.convTranspose1", 8, 4, 4, 4, bias=False)
    g.norm("main.batchNorm1", 4)
    g.weight("main.outlayer", 4, 3, 4, 4, bias=False)
    return g, d
