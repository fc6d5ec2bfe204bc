"""The verb ``check``: look through target images before training, for what is odd, and give advice."""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import pathlib
import statistics
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from regraft.core import discover
from regraft.core.errors import ConfigError, DataError
from regraft.data import pictures
from regraft.data.duplicates import near_duplicates
from regraft.data.given_labels import GivenLabels
from regraft.data.images import ImageSet, Item
from regraft.data.listing import TRAIN
from regraft.data.pixels import Depths, UnreadableImage, decode, fit_picture
from regraft.data.split import MIN_IMAGES, held_out_count
from regraft.methods.base import Method
from regraft.verbs._arguments import ImagesArgument, list_images
from regraft.verbs.adapting import choices, findings

SIDE = 32
"""Side that images are looked at."""
SMALLEST_SOURCE = 32
"""Side of the smallest common sources."""
SHOWN = 24
TILE = 64


@dataclasses.dataclass(frozen=True)
class Glance:
    """One file, looked at.

    Attributes:
        name: of the file.
        size: width and height.
        mode: ``L`` or ``RGB``.
        pixels: the image shrunk to (3, 32, 32), uint8.
        notes: conversions that were made.
    """

    name: str
    size: tuple[int, int]
    mode: str
    pixels: Tensor
    notes: tuple[str, ...]


def check(
    images: ImagesArgument,
    out: str | pathlib.Path | None = None,
    *,
    labels: GivenLabels | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """Look through target images.

    Args:
        images: a path, or images in memory as :func:`regraft.open_images` takes them.
        out: a ``.png`` to write, with an overview, near-duplicates and outliers.
        labels: the class of each image, numbers or names in the order of the images.
        split: where images lie in folders train, val and test, the one to look at, or ``all``; train if left out.

    Returns:
        Notes on what was left out, counts, sizes, modes, near-duplicates, outliers, odd files and advice, as plain data.

    Raises:
        DataError: if no image can be read.
        ConfigError: if ``out`` exists or is not a .png.
    """
    listed = list_images(images, split=split or TRAIN, labels=labels).measured()
    path = None if out is None else pathlib.Path(out)
    if path is not None and (path.suffix.lower() != ".png" or path.exists()):
        raise ConfigError(f"{path}: {'exists, and nothing is overwritten' if path.exists() else 'the sheet is a .png'}")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(functools.partial(_look, depths=listed.depths), listed.items))
    errors = [str(r) for r in results if isinstance(r, UnreadableImage)]
    glances = [r for r in results if isinstance(r, Glance)]
    if not glances:
        raise DataError(f"{listed.where}: none of its {len(listed)} images can be read, for example: {errors[0]}")
    small = torch.stack([g.pixels for g in glances])
    pixels = small.float().div_(127.5).sub_(1)
    twins, far = near_duplicates(small), findings.outliers(pixels)
    facts = {"notes": list(listed.notes)} | _facts(listed, glances, errors)
    facts["near_duplicates"] = [[glances[a].name, glances[b].name] for a, b in twins]
    facts["outliers"] = [glances[k].name for k in far]
    facts["odd"] += [f"{glances[k].name}: blank" for k in findings.blank(pixels).nonzero().flatten().tolist()]
    facts["advice"] = _advise(glances, pixels, len({b for _, b in twins}))
    if path is not None:
        pictures.save_png(path, _sheet(glances, twins, far))
        facts["sheet"] = str(path)
    return facts


def _look(item: Item, depths: Depths | None) -> Glance | UnreadableImage:
    """Read an image and shrink it; return the error if it cannot be read."""
    notes: set[str] = set()
    try:
        picture = decode(item.read(), item.name, notes.add, depths=depths)
        small = torch.from_numpy(fit_picture(picture.convert("RGB"), (SIDE, SIDE), 3, "stretch", lambda note: None).copy())
        return Glance(item.name, picture.size, picture.mode, small, tuple(sorted(notes)))
    except UnreadableImage as error:
        return error


def _facts(listed: ImageSet, glances: list[Glance], errors: list[str]) -> dict[str, Any]:
    """Return counts, sizes and modes of the images, and files that are odd by their size."""
    sizes = collections.Counter(f"{w}x{h}" for w, h in (g.size for g in glances))
    short_sides = sorted(min(g.size) for g in glances)
    odd = [f"unreadable: {error}" for error in errors]
    median_side = statistics.median(short_sides)
    odd += [f"{glances[k].name}: {text}" for k, text in findings.odd_sizes([g.size for g in glances]).items()]
    conversions = collections.Counter(note for g in glances for note in g.notes)
    others = sum(sizes.values()) - sum(n for _, n in sizes.most_common(8))
    classes = collections.Counter(listed.classes[i.label] for i in listed.items if i.label is not None)
    return {
        "images": len(glances),
        "unreadable": len(errors),
        "classes": dict(classes),
        "sizes": dict(sizes.most_common(8)) | ({"others": others} if others else {}),
        "short_side": {"least": short_sides[0], "median": median_side, "most": short_sides[-1]},
        "modes": dict(collections.Counter({"L": "grey", "RGB": "colour"}[g.mode] for g in glances)),
        "conversions": dict(conversions),
        "odd": odd,
    }


def _advise(glances: list[Glance], pixels: Tensor, twins: int) -> list[str]:
    """Return advice, one sentence for each choice, with its reason."""
    return [
        *_advise_on_number(len(glances)),
        *([f"Remove near-duplicates: {twins} images show what another one shows; measures will flatter."] if twins else []),
        *_advise_on_shape(glances),
        *_advise_on_training(len(glances)),
        _advise_on_flip(pixels),
    ]


def _advise_on_number(n: int) -> list[str]:
    advice = []
    unknown = [what for what, least in (("near-duplicates", 3), ("images unlike all others", 8)) if n < least]
    if unknown:
        advice.append(f"Nothing can be said of {' and '.join(unknown)}: {n} images are too few to know what is usual.")
    if n < MIN_IMAGES:
        advice.append(f"More images: {n} cannot be adapted to; {MIN_IMAGES} are the least, 25 or more are advised.")
    elif n < 25:
        advice.append(
            f"More images if you can: from {n} little can be held out, so that copying and overfitting are hard to see."
        )
    return advice


def _advise_on_shape(glances: list[Glance]) -> list[str]:
    """Advise on fit, size of the source and colour."""
    ratios = [w / h for w, h in (g.size for g in glances)]
    median_ratio = statistics.median(ratios)
    if not all(abs(r / median_ratio - 1) < 0.02 for r in ratios):
        lost = statistics.mean(1 - min(r, 1 / r) for r in ratios)
        fit = f"--fit crop: shapes differ; the middle square loses {lost:.0%} of the area. Use pad to keep it all."
    elif abs(median_ratio - 1) < 0.02:
        fit = "--fit crop: the images are square, nothing is lost."
    else:
        fit = (
            f"--fit stretch: all images are {median_ratio:.2f} times as wide as high; sampling brings them back to that shape."
        )
    short = statistics.median(min(g.size) for g in glances)
    near = max(SMALLEST_SOURCE, 1 << round(math.log2(max(1.0, short))))
    size = f"A source of about {near} pixels a side: half of the images have {short:.0f} or less"
    size += "; they will be enlarged, so find larger originals if you can." if short < near / 1.5 else "."
    grey = sum(g.mode == "L" for g in glances)
    if not 0 < grey < len(glances):
        return [fit, size]
    return [fit, size, f"Decide on grey or colour: {grey} of {len(glances)} images are grey; a colour source will learn both."]


def _advise_on_training(n: int) -> list[str]:
    """Advise on method, steps and held-out images; nothing if there are too few images."""
    if n < MIN_IMAGES:
        return []
    method, reason = choices.method("auto", n, 1, True)
    steps = getattr(discover.plugin("methods", method, Method).Config(), "steps", None)
    advice = [f"--method {method} with one source: {str(reason).partition(': ')[2]}; minegan with several sources."]
    if steps:
        advice.append(f"--steps {steps}, the method's own: the best step is kept, and a worsening run ends early.")
    held_out = held_out_count(n)
    if held_out == 1:
        return [*advice, f"1 of the {n} images is held out, which is too few to measure on."]
    rough = "; too few for more than rough numbers." if held_out < 20 else "."
    return [*advice, f"{held_out} of the {n} images are held out for measuring{rough}"]


def _advise_on_flip(pixels: Tensor) -> str:
    mirror, reason = choices.flip("auto", pixels)
    return f"--flip {'on' if mirror else 'off'}: {str(reason).partition(': ')[2]}."


def _sheet(glances: list[Glance], twins: list[tuple[int, int]], far: list[int]) -> Image.Image:
    """Draw an overview, near-duplicates (pairs side by side) and outliers."""
    spaced = torch.linspace(0, len(glances) - 1, min(SHOWN, len(glances))).long().tolist()
    parts = [(f"{len(glances)} images, some of them", spaced)]
    parts += [("near-duplicates, pair by pair", [k for pair in twins[: SHOWN // 2] for k in pair])] if twins else []
    parts += [("unlike all others, the most unlike first", far[:SHOWN])] if far else []
    columns, head, gap = 8, 26, 4
    rows = [-(-len(indices) // columns) for _, indices in parts]
    sheet = Image.new("RGB", (columns * (TILE + gap) + gap, sum(head + r * (TILE + gap) + gap for r in rows)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (title, indices), count in zip(parts, rows, strict=True):
        draw.text((gap, top + 7), title, fill="black")
        for place, k in enumerate(indices):
            picture = pictures.to_picture(glances[k].pixels.float().div(127.5).sub(1)).resize(
                (TILE, TILE), Image.Resampling.BICUBIC
            )
            sheet.paste(picture, (gap + place % columns * (TILE + gap), top + head + place // columns * (TILE + gap)))
        top += head + count * (TILE + gap) + gap
    return sheet
