"""How fast StyleGAN2 samples on the CPU, beside its authors' own code, in one run on the same weights.

    python benchmarks/speed/stylegan2_sampling.py --reference ../stylegan2-ada-pytorch

The reference is a checkout of NVlabs/stylegan2-ada-pytorch, which is not part of this project and whose licence allows
non-commercial use only.  Both networks get the same random weights and latents, take turns, and must agree; what is reported
is the median time of each and their ratio.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
import warnings

import torch

from regraft.backbones.stylegan2 import PLUGIN, default_configs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=pathlib.Path, required=True, help="checkout of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--channel-base", type=int, default=16384, help="16384: the authors' paper256; 32768: configuration F")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--least", type=float, default=1.3, help="fail below this ratio")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    theirs = reference(args.reference, args.resolution, args.channel_base)
    ours = same_weights(theirs, args.resolution, args.channel_base)
    z = ours.latent.at(0, range(args.batch))
    no_class = torch.zeros(args.batch, 0)

    def run_theirs() -> torch.Tensor:
        return theirs(z, no_class, noise_mode="const", force_fp32=True)

    def run_ours() -> torch.Tensor:
        return ours(z)

    with torch.no_grad():
        a, b = run_theirs(), run_ours()  # also the warm-up
        error = ((a - b).abs().max() / a.abs().max()).item()
        times: dict[str, list[float]] = {"reference": [], "regraft": []}
        for _ in range(args.rounds):
            for name, run in (("reference", run_theirs), ("regraft", run_ours)):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    seconds = {name: round(statistics.median(values), 4) for name, values in times.items()}
    ratio = seconds["reference"] / seconds["regraft"]
    report = {
        "resolution": args.resolution,
        "channel_base": args.channel_base,
        "batch": args.batch,
        "threads": args.threads,
        "torch": torch.__version__,
        "seconds": seconds,
        "ratio": round(ratio, 3),
        "relative_error": error,
    }
    print(json.dumps(report, indent=1))
    if error > 1e-4:
        print("the two networks do not agree", file=sys.stderr)
        return 1
    return 0 if ratio >= args.least else 1


def reference(checkout: pathlib.Path, resolution: int, channel_base: int) -> torch.nn.Module:
    """The authors' generator with random weights, in single precision."""
    if not (checkout / "training" / "networks.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of stylegan2-ada-pytorch: it has no training/networks.py")
    sys.path.insert(0, str(checkout))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the code is older than the torch it runs on
        from training.networks import Generator  # type: ignore[import-not-found]
    torch.manual_seed(0)
    made: torch.nn.Module = Generator(
        z_dim=512,
        c_dim=0,
        w_dim=512,
        img_resolution=resolution,
        img_channels=3,
        mapping_kwargs={"num_layers": 8},
        synthesis_kwargs={"channel_base": channel_base, "channel_max": 512, "num_fp16_res": 0, "conv_clamp": 256},
    )
    for name, parameter in made.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return made.eval().requires_grad_(False)


def same_weights(theirs: torch.nn.Module, resolution: int, channel_base: int) -> torch.nn.Module:
    """Our generator with the reference's weights."""
    config = default_configs(resolution, 3, width=channel_base)[0].model_copy(update={"conv_clamp": 256.0})
    ours = PLUGIN.generator(config)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.endswith("resample_filter")})
    return ours.eval().requires_grad_(False)


if __name__ == "__main__":
    raise SystemExit(main())
