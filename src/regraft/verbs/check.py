"""A look at target images before any training: what is there, what is odd, what is advised."""

import collections
import concurrent.futures
import dataclasses
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
from regraft.data.images import ImageSet, Item, from_array
from regraft.data.opening import open_images
from regraft.data.pixels import UnreadableImage, decode, fit_picture
from regraft.data.split import MIN_IMAGES, held_out_count
from regraft.evaluation.compare import extractor
from regraft.methods.base import Method
from regraft.verbs.adapting import choices

SIDE = 32
GREY_SIDE = 16
SMALLEST = 32  # side of the smallest common sources
ALIKE = 0.99  # correlation of small grey pictures
ALIKE_SHARE = 0.3  # of the usual distance to the nearest other image
OUTLYING = 6.0  # robust standard deviations
SHOWN = 24
TILE = 64


@dataclasses.dataclass(frozen=True)
class Looked:
    """What was seen of one file."""

    name: str
    size: tuple[int, int]
    mode: str
    pixels: Tensor
    notes: tuple[str, ...]


def check(images: str | pathlib.Path | ImageSet, out: str | pathlib.Path | None = None) -> dict[str, Any]:
    """Look through target images.

    Args:
        images: a folder, a .zip, an .npz, or images listed with :func:`regraft.open_images`.
        out: a ``.png`` to write, with an overview, near-duplicates and outliers.

    Returns:
        Counts, sizes, modes, near-duplicates, outliers, odd files and advice, as plain data.

    Raises:
        DataError: if there are no readable images.
        ConfigError: if ``out`` exists or is no .png.
    """
    listed = images if isinstance(images, ImageSet) else open_images(images)
    path = None if out is None else pathlib.Path(out)
    if path is not None and (path.suffix.lower() != ".png" or path.exists()):
        raise ConfigError(f"{path}: {'exists, and nothing is overwritten' if path.exists() else 'the sheet is a .png'}")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(_look, listed.items))
    bad = [str(f) for f in found if isinstance(f, UnreadableImage)]
    seen = [f for f in found if isinstance(f, Looked)]
    if not seen:
        raise DataError(f"{listed.where}: none of its {len(listed)} images can be read, for example: {bad[0]}")
    pixels = torch.stack([s.pixels for s in seen]).float().div_(127.5).sub_(1)
    twins, apart = near_duplicates(pixels), outliers(pixels)
    facts = _facts(listed, seen, bad)
    facts["near_duplicates"] = [[seen[a].name, seen[b].name] for a, b in twins]
    facts["outliers"] = [seen[k].name for k in apart]
    facts["odd"] += [f"{s.name}: blank" for s, flat in zip(seen, pixels.flatten(1).std(1) < 0.02, strict=True) if flat]
    facts["advice"] = _advice(seen, pixels, len({b for _, b in twins}))
    if path is not None:
        pictures.save_png(path, _sheet(seen, twins, apart))
        facts["sheet"] = str(path)
    return facts


def near_duplicates(pixels: Tensor, limit: int = 200) -> list[tuple[int, int]]:
    """Pairs that show almost the same picture, mirrored ones included, each later image once.

    Alike means a correlation of small grey pictures above 0.99, and a distance well below what the set's images usually have
    from their nearest other one: simple sets (digits, icons) hold different images that correlate.

    Args:
        pixels: (N, C, H, W) in [-1, 1].
        limit: pairs at most.
    """
    if len(pixels) < 3:
        return []
    grey = torch.nn.functional.interpolate(pixels.mean(1, keepdim=True), size=(GREY_SIDE, GREY_SIDE), mode="area")
    mirrored = grey.flip(3).flatten(1)
    grey = grey.flatten(1)
    normal, normal_mirrored = (torch.nn.functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in (grey, mirrored))
    best, which, distance = [], [], []
    for start in range(0, len(grey), 1024):
        rows = normal[start : start + 1024]
        likeness = torch.maximum(rows @ normal.T, rows @ normal_mirrored.T)
        likeness[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = -2
        value, index = likeness.max(1)
        part = grey[start : start + 1024]
        apart = torch.minimum((part - grey[index]).norm(dim=1), (part - mirrored[index]).norm(dim=1))
        best.append(value)
        which.append(index)
        distance.append(apart)
    likeness, other, apart = torch.cat(best), torch.cat(which), torch.cat(distance)
    alike = (likeness > ALIKE) & (apart < ALIKE_SHARE * apart.median())
    # Where most images have a twin the median is theirs: identical pictures count whatever the rest does.
    alike |= apart < 1e-3
    pairs = {(min(k, int(other[k])), max(k, int(other[k]))) for k in alike.nonzero().flatten().tolist()}
    return sorted(pairs)[:limit]


def outliers(pixels: Tensor, limit: int = 50) -> list[int]:
    """Images unlike all others in colours, edges and their arrangement, farthest first."""
    if len(pixels) < 8:
        return []
    features = extractor("random_conv")(pixels)
    features = features / features.std(0).clamp_min(1e-6)
    distance = torch.cat(
        [torch.cdist(part, features).topk(4, largest=False).values[:, 3] for part in torch.split(features, 1024)]
    )
    middle = distance.median()
    spread = 1.4826 * (distance - middle).abs().median().clamp_min(0.02 * middle)
    far = ((distance - middle) / spread > OUTLYING).nonzero().flatten()
    return [int(k) for k in far[distance[far].argsort(descending=True)][:limit]]


def _look(item: Item) -> Looked | UnreadableImage:
    notes: set[str] = set()
    try:
        content = item.read()
        picture = decode(content, item.name, notes.add) if isinstance(content, bytes) else from_array(content, item.name)
        small = torch.from_numpy(fit_picture(picture.convert("RGB"), (SIDE, SIDE), 3, "stretch", lambda note: None).copy())
        return Looked(item.name, picture.size, picture.mode, small, tuple(sorted(notes)))
    except UnreadableImage as error:
        return error


def _facts(listed: ImageSet, seen: list[Looked], bad: list[str]) -> dict[str, Any]:
    sizes = collections.Counter(f"{w}x{h}" for w, h in (s.size for s in seen))
    short = sorted(min(s.size) for s in seen)
    odd = [f"unreadable: {b}" for b in bad]
    middle = statistics.median(short)
    ratio = statistics.median(w / h for w, h in (s.size for s in seen))
    for s in seen:
        if min(s.size) < middle / 2:
            odd.append(f"{s.name}: much smaller than the others ({s.size[0]}x{s.size[1]})")
        elif max(s.size[0] / s.size[1] / ratio, ratio / (s.size[0] / s.size[1])) > 2:
            odd.append(f"{s.name}: a very different shape ({s.size[0]}x{s.size[1]})")
    notes = collections.Counter(note for s in seen for note in s.notes)
    rest = sum(sizes.values()) - sum(n for _, n in sizes.most_common(8))
    classes = collections.Counter(listed.classes[i.label] for i in listed.items if i.label is not None)
    return {
        "images": len(seen),
        "unreadable": len(bad),
        "classes": dict(classes),
        "sizes": dict(sizes.most_common(8)) | ({"others": rest} if rest else {}),
        "short_side": {"least": short[0], "median": middle, "most": short[-1]},
        "modes": dict(collections.Counter({"L": "grey", "RGB": "colour"}[s.mode] for s in seen)),
        "conversions": dict(notes),
        "odd": odd,
    }


def _advice(seen: list[Looked], pixels: Tensor, twins: int) -> list[str]:
    """Sentences, each a choice with its reason."""
    n = len(seen)
    said = []
    unseen = [what for what, least in (("near-duplicates", 3), ("images unlike all others", 8)) if n < least]
    if unseen:
        said.append(f"Nothing can be said of {' and '.join(unseen)}: {n} images are too few to know what is usual.")
    if n < MIN_IMAGES:
        said.append(f"More images: {n} cannot be adapted to; {MIN_IMAGES} are the least, 25 or more are advised.")
    elif n < 25:
        said.append(
            f"More images if you can: from {n} little can be held out, so that copying and overfitting are hard to see."
        )
    if twins:
        said.append(f"Remove near-duplicates: {twins} images show what another one shows; measures will flatter.")
    ratios = [w / h for w, h in (s.size for s in seen)]
    middle = statistics.median(ratios)
    same = all(abs(r / middle - 1) < 0.02 for r in ratios)
    if same and abs(middle - 1) < 0.02:
        said.append("--fit crop: the images are square, nothing is lost.")
    elif same:
        said.append(
            f"--fit stretch: all images are {middle:.2f} times as wide as high; sampling brings them back to that shape."
        )
    else:
        lost = statistics.mean(1 - min(r, 1 / r) for r in ratios)
        said.append(f"--fit crop: shapes differ; the middle square loses {lost:.0%} of the area. Use pad to keep it all.")
    short = statistics.median(min(s.size) for s in seen)
    near = max(SMALLEST, 1 << round(math.log2(max(1.0, short))))
    size = f"A source of about {near} pixels a side: half of the images have {short:.0f} or less"
    said.append(size + ("; they will be enlarged, so find larger originals if you can." if short < near / 1.5 else "."))
    grey = sum(s.mode == "L" for s in seen)
    if 0 < grey < n:
        said.append(f"Decide on grey or colour: {grey} of {n} images are grey; a colour source will learn both.")
    if n >= MIN_IMAGES:
        chosen, why = choices.method("auto", n, 1, True)
        steps = getattr(discover.plugin("methods", chosen, Method).Config(), "steps", None)
        said.append(f"--method {chosen} with one source: {str(why).partition(': ')[2]}; minegan with several sources.")
        if steps:
            said.append(f"--steps {steps}, the method's own: the best step is kept, and a worsening run ends early.")
        held = held_out_count(n)
        rough = "; too few for more than rough numbers." if held < 20 else "."
        many = f"{held} of the {n} images are held out for measuring{rough}"
        said.append(many if held > 1 else f"1 of the {n} images is held out, which is too few to measure on.")
    mirror, why = choices.flip("auto", pixels)
    said.append(f"--flip {'on' if mirror else 'off'}: {str(why).partition(': ')[2]}.")
    return said


def _sheet(seen: list[Looked], twins: list[tuple[int, int]], apart: list[int]) -> Image.Image:
    """Overview, near-duplicates (pairs side by side) and outliers."""
    spaced = torch.linspace(0, len(seen) - 1, min(SHOWN, len(seen))).long().tolist()
    parts = [(f"{len(seen)} images, some of them", spaced)]
    parts += [("near-duplicates, pair by pair", [k for pair in twins[: SHOWN // 2] for k in pair])] if twins else []
    parts += [("unlike all others, the most unlike first", apart[:SHOWN])] if apart else []
    columns, head, gap = 8, 26, 4
    rows = [-(-len(indices) // columns) for _, indices in parts]
    sheet = Image.new("RGB", (columns * (TILE + gap) + gap, sum(head + r * (TILE + gap) + gap for r in rows)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (title, indices), count in zip(parts, rows, strict=True):
        draw.text((gap, top + 7), title, fill="black")
        for place, k in enumerate(indices):
            picture = pictures.to_picture(seen[k].pixels.float().div(127.5).sub(1)).resize(
                (TILE, TILE), Image.Resampling.BICUBIC
            )
            sheet.paste(picture, (gap + place % columns * (TILE + gap), top + head + place // columns * (TILE + gap)))
        top += head + count * (TILE + gap) + gap
    return sheet
