"""Resident memory of mining four StyleGAN2 of 256 pixels at batch 4 on the CPU.

    python benchmarks/speed/many_sources_memory.py [--size 256] [--steps 2]

The networks are full-size with random weights; what counts is the process's peak of resident memory.  Wanted: under 12 GB.
"""

import argparse
import json
import pathlib
import platform
import resource

import torch

import regraft
from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.build import build_fresh
from regraft.core.config import parse
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Description
from regraft.core.randomness import generator_at
from regraft.data.images import Images
from regraft.methods.base import Method
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan

HERE = pathlib.Path(__file__).parent


def source(size: int, seed: int) -> GAN:
    """A random StyleGAN2."""
    family = discover.plugin("backbones", "stylegan2", Backbone)
    configs = zip(("generator", "critic"), family.default_configs(size, 3), strict=True)
    made = [build_fresh(Description("stylegan2", role, c.model_dump(mode="json")), seed) for role, c in configs]
    objective, recipe = family.training(size)
    recipe = recipe.model_copy(update={"batch": 4})
    networks = [network.requires_grad_(False).eval() for network in made]
    return GAN(*networks, objective=objective, recipe=recipe, provenance=Provenance(name=f"random {seed}"))


def main() -> None:
    """Mine and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sources = [source(options.size, seed) for seed in range(4)]
    pixels = torch.randint(0, 256, (8, 3, options.size, options.size), dtype=torch.uint8)
    method = discover.plugin("methods", "minegan", Method)
    settings = {"mining_steps": options.steps, "finetuning_steps": 0}
    config = method.complete_config(parse(method.Config, settings, "minegan"), sources, 0, 0)
    images = Images(pixels, None, ())
    adaptation = method.attach(sources, images, config, generator_at(0, "init"))
    before = peak()
    Loop(adaptation, images, Plan(), RunStore(None)).run()
    record = {
        "command": "python benchmarks/speed/many_sources_memory.py",
        "size": options.size,
        "steps": options.steps,
        "batch": 4,
        "versions": {"regraft": regraft.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "before_gb": round(before, 2),
        "peak_gb": round(peak(), 2),
    }
    lines = [
        f"# Memory of mining four StyleGAN2 of {options.size} pixels",
        "",
        f"{options.steps} mining steps at batch 4 on the CPU.  Wanted: under 12 GB.  Made by `{record['command']}`.",
        "",
        "| | GB resident |",
        "|---|---|",
        f"| sources, miners and critic loaded | {before:.2f} |",
        f"| peak of training | {record['peak_gb']:.2f} |",
        "",
    ]
    (HERE / "many_sources_memory.json").write_text(json.dumps(record, indent=1) + "\n")
    (HERE / "many_sources_memory.md").write_text("\n".join(lines))
    print("\n".join(lines))


def peak() -> float:
    """The most resident memory so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
