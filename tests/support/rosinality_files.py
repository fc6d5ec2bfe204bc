"""Tiny checkpoints of rosinality's StyleGAN2 of random weights in their own names."""

import argparse

import torch

D = 6  # width of latents and styles
FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
WIDTHS = (7, 5, 4)  # 4, 8, 16 px: no formula gives these


def randn(*shape):
    """Normal draws, somewhat small."""
    return torch.randn(*shape) * 0.7


def styled(prefix, inputs, outputs, kernel=3):
    """A modulated layer."""
    t = {f"{prefix}.conv.weight": randn(1, outputs, inputs, kernel, kernel)}
    t |= {f"{prefix}.conv.modulation.weight": randn(inputs, D), f"{prefix}.conv.modulation.bias": randn(inputs) + 1}
    if kernel == 1:
        return t | {f"{prefix}.bias": randn(1, outputs, 1, 1)}
    return t | {f"{prefix}.noise.weight": randn(1), f"{prefix}.activate.bias": randn(outputs)}


def generator_state(mapping=2):
    """A generator's tensors."""
    torch.manual_seed(4)
    t = {}
    for i in range(mapping):
        t |= {f"style.{i + 1}.weight": randn(D, D) * 100, f"style.{i + 1}.bias": randn(D) * 100}
    t |= {"input.input": randn(1, WIDTHS[0], 4, 4)} | styled("conv1", WIDTHS[0], WIDTHS[0]) | styled("to_rgb1", WIDTHS[0], 3, 1)
    t["noises.noise_0"] = randn(1, 1, 4, 4)
    for i, (below, width) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        t |= styled(f"convs.{2 * i}", below, width) | styled(f"convs.{2 * i + 1}", width, width)
        t |= {f"convs.{2 * i}.conv.blur.kernel": FIR * 4, f"to_rgbs.{i}.upsample.kernel": FIR * 4}
        t |= styled(f"to_rgbs.{i}", width, 3, 1)
        t |= {f"noises.noise_{2 * i + j}": randn(1, 1, 8 << i, 8 << i) for j in (1, 2)}
    return t


def critic_state():
    """A critic's tensors."""
    torch.manual_seed(5)
    t = {"convs.0.0.weight": randn(WIDTHS[-1], 3, 1, 1), "convs.0.1.bias": randn(WIDTHS[-1])}
    for j, (width, below) in enumerate(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True), 1):
        t |= {f"convs.{j}.conv1.0.weight": randn(width, width, 3, 3), f"convs.{j}.conv1.1.bias": randn(width)}
        t |= {f"convs.{j}.conv2.1.weight": randn(below, width, 3, 3), f"convs.{j}.conv2.2.bias": randn(below)}
        t |= {f"convs.{j}.conv2.0.kernel": FIR, f"convs.{j}.skip.0.kernel": FIR}
        t[f"convs.{j}.skip.1.weight"] = randn(below, width, 1, 1)
    first = WIDTHS[0]
    t |= {"final_conv.0.weight": randn(first, first + 1, 3, 3), "final_conv.1.bias": randn(first)}
    t |= {"final_linear.0.weight": randn(first, first * 16), "final_linear.0.bias": randn(first)}
    return t | {"final_linear.1.weight": randn(1, first), "final_linear.1.bias": randn(1)}


def arguments(**extra):
    """Arguments of training, as the file keeps them."""
    return argparse.Namespace(size=16, latent=D, path="x", channel_multiplier=2, augment=False, **extra)


def training_file():
    """All that a training run saves."""
    optimiser = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.002}]}
    return {
        "g": generator_state(),
        "d": critic_state(),
        "g_ema": generator_state(),
        "g_optim": optimiser,
        "d_optim": optimiser,
        "args": arguments(),
        "ada_aug_p": 0.0,
    }
