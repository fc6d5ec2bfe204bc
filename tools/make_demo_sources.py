"""Train the small digit GANs that ship with regraft, and copy the demo's target images.

    python tools/make_demo_sources.py mnist_28.npz [--only NAME] [--steps N]

Three GANs at 32x32, about half a million values each, stored in half precision:

    digits        conditional, all ten digits
    digits-low    unconditional, digits 0 to 4
    digits-high   unconditional, digits 5 to 9

The training images are MNIST (LeCun et al. 1998), 25,000 of its 60,000; none of them ships with the package.  The target images
are scans of one digit out of the UCI "Optical recognition of handwritten digits" set (Alpaydin & Kaynak 1998), as scikit-learn
carries it.
"""

import argparse
import json
import pathlib
import shutil
import tempfile

import torch
from safetensors.torch import load_file

import regraft
from regraft.data.images import ImageSet
from regraft.files.atomic import write_json, write_tensors

ASSETS = pathlib.Path(regraft.__file__).parent / "assets"
SOURCES = {"digits": range(10), "digits-low": range(5), "digits-high": range(5, 10)}
TARGET_DIGIT = 6
BACKBONE = {"width": 32, "latent_dim": 64}


def train(name: str, digits: range, images: ImageSet, steps: int, work: pathlib.Path) -> None:
    """Train one source and write it into the package."""
    conditional = name == "digits"
    chosen = tuple(i for i in images.items if int(images.classes[i.label]) in digits)
    subset = ImageSet(images.where, chosen, images.classes if conditional else ())
    run = regraft.adapt(
        subset,
        method="scratch",
        out=work / name,
        steps=steps,
        labels=conditional,
        size=32,
        channels=1,
        fit="pad",
        flip="off",
        backbone_settings=BACKBONE,
        augment=[],
        held_out=0,
        keep="last",
        evaluate_every=0,
        on_event=lambda e: print(e) if e.get("event") != "note" else None,
    )
    folder = ASSETS / "sources" / name
    shutil.rmtree(folder, ignore_errors=True)
    regraft.convert(run.folder, folder)
    halve(folder, name)
    print(name, {p.name: p.stat().st_size for p in folder.iterdir()})


def halve(folder: pathlib.Path, name: str) -> None:
    """Store tensors in half precision, and say where they come from."""
    tensors = load_file(folder / "model.safetensors")
    write_tensors(folder / "model.safetensors", {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()})
    record = json.loads((folder / "source.json").read_text())
    # How they were made from nothing is not how they are best adapted: leave that to the family's own recipe.
    del record["objective"], record["recipe"]
    record["provenance"] = {
        "name": name,
        "licence": "Apache-2.0",
        "dataset": "MNIST (25,000 of its training images)",
        "url": None,
        "lineage": [],
        "files": {},
        "format": "regraft",
    }
    write_json(folder / "source.json", record)


def targets() -> None:
    """Copy the first 25 scans of the target digit as PNG."""
    import sklearn.datasets
    from PIL import Image

    scans = sklearn.datasets.load_digits()
    folder = ASSETS / "targets" / "scanned-sixes"
    folder.mkdir(parents=True, exist_ok=True)
    for k, index in enumerate((scans.target == TARGET_DIGIT).nonzero()[0][:25]):
        # Sixteen grey levels on 8x8 cells.
        Image.fromarray((scans.images[index] * 255 / 16).round().astype("uint8")).save(folder / f"{k:02d}.png")


def main() -> None:
    """Make everything, or one source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", help="an .npz with x_train (N, 28, 28) and y_train")
    parser.add_argument("--only", choices=list(SOURCES))
    parser.add_argument("--steps", type=int, default=12_000)
    arguments = parser.parse_args()
    targets()
    images = regraft.open_images(f"{arguments.mnist}:x_train")
    with tempfile.TemporaryDirectory() as work:
        for name, digits in SOURCES.items():
            if arguments.only in (None, name):
                train(name, digits, images, arguments.steps, pathlib.Path(work))


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
