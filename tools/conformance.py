"""Compare every reference checkpoint with what its authors' own code computed from it; write docs/conformance.md.

    python tools/conformance.py --reference ../shared/reference --out docs/conformance.md

A folder holds a checkpoint in its real container, ``about.json`` (its family) and ``io.npz``: latents, labels, images, scores.
The name of an array says the setting it was made with; ``IMAGES`` and ``SCORES`` say which call of regraft that is.
"""

import argparse
import copy
import dataclasses
import json
import math
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import regraft
from regraft.core import norms
from regraft.core.errors import MissingCapability, RegraftError
from regraft.core.gan import GAN
from regraft.core.networks import ClassCode

IMAGE_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-3
SIDE_FILES = {"about.json", "io.npz", "params.npz", "checkpoint"}

# Recorded, and not something that a source of regraft can show.
LEFT_OUT = {
    "img_const_G_raw": "the generator without averaging, which is not read",
    "img_netG": "the generator without averaging, which is not read",
    "img_lod_m1_nonoise": "a stage of growing",
    "img_blend03_nonoise": "a stage of growing",
    "E_real_blend03": "a stage of growing",
    "img_noise": "needs injected noise maps",
}


class NotHere(Exception):
    """The source has no such part."""


@dataclasses.dataclass
class Case:
    """A loaded reference with its recorded arrays."""

    gan: GAN
    io: dict[str, Tensor]

    @property
    def z(self) -> Tensor:
        """Latents (N, dim)."""
        return self.io["z"].flatten(1)

    @property
    def y(self) -> Tensor | None:
        """Class indices (N,), None where the generator has no classes."""
        given = self.io.get("y", self.io.get("c"))
        if given is None or not self.gan.generator.n_classes:
            return None
        return given.argmax(1) if given.dim() == 2 else given.long()

    def images(self, **settings: Any) -> Tensor:
        """What the generator makes of the recorded latents."""
        return self.gan.generator(self.z, self.y, **settings)

    def mapping(self, key: str = "z") -> Tensor:
        """Styles (N, num_ws, w_dim) of recorded latents."""
        if self.gan.generator.styles is None:
            raise NotHere("no mapping")
        return self.gan.generator.styles.mapping(self.io[key].flatten(1), self.y)

    def synthesis(self, styles: Tensor) -> Tensor:
        """Images of styles, with constant noise."""
        if self.gan.generator.styles is None:
            raise NotHere("no synthesis")
        images: Tensor = self.gan.generator.styles.synthesis(styles, noise="const")
        return images

    def scores(self, x: Tensor) -> Tensor:
        """What the critic says of images, with the recorded labels where it knows classes."""
        if self.gan.critic is None:
            raise NotHere("no critic")
        y = self.y[: len(x)] if self.y is not None and self.gan.critic.n_classes else None
        return self.gan.critic(x, y)

    @property
    def fake(self) -> Tensor:
        """The recorded images that ``d_fake`` scores."""
        names = ("img", "img_const", "img_ema", "img_avgG", "img_nonoise")
        return next(self.io[name] for name in names if name in self.io)


def truncated(case: Case, psi: float, cutoff: int | None = None) -> Tensor:
    """Styles drawn towards the recorded mean, the first ``cutoff`` of them."""
    mean = case.io.get("w_avg", case.io.get("latent_avg"))
    if mean is None:
        raise NotHere("no mean style recorded")
    styles = case.mapping().clone()
    rows = slice(None, cutoff)
    styles[:, rows] = mean + psi * (styles[:, rows] - mean)
    return styles


def mixed(case: Case, at: int) -> Tensor:
    """Styles of two latents, the second from row ``at`` on."""
    return torch.cat([case.mapping("z")[:, :at], case.mapping("z2")[:, at:]], 1)


def batch_statistics(case: Case) -> Tensor:
    """Images with the batch's own statistics."""
    generator = copy.deepcopy(case.gan.generator)
    norms.set_training(generator, "batch")
    return generator(case.z, case.y)


def recorded_truncation(case: Case, psi: float) -> Tensor:
    """Truncation to the mean that was recorded, else to the source's own."""
    return case.synthesis(truncated(case, psi)) if "latent_avg" in case.io else case.images(psi=psi)


# Name of a recorded array (a pattern) to what must equal it.
IMAGES: dict[str, Callable[..., Tensor]] = {
    r"img|img_const|img_ema|img_avgG|img_nonoise": lambda case: case.images(),
    r"img_none|img_zeronoise": lambda case: case.images(noise="none"),
    r"img_psi(\d\d)|img_trunc(\d\d)": lambda case, *psi: recorded_truncation(case, float(next(filter(None, psi))) / 10),
    r"img_psi(\d\d)_cut(\d+)": lambda case, psi, cut: case.synthesis(truncated(case, float(psi) / 10, int(cut))),
    r"img_t(\d\.\d+)": lambda case, psi: case.images(psi=float(psi)),
    r"img_trunc_nonoise": lambda case: case.synthesis(case.io["ws_trunc"]),
    r"img_mix_at(\d+)": lambda case, at: case.synthesis(mixed(case, int(at))),
    r"img_mix": lambda case: case.gan.generator(case.z, ClassCode(case.io["shared_mix"])),
    r"img_trainmode": batch_statistics,
    r"img_batch_of_(\d+)": lambda case, n: case.gan.generator(case.z[: int(n)], None if case.y is None else case.y[: int(n)]),
    r"ws|w": lambda case: case.mapping(),
    r"embed|shared_y": lambda case: case.gan.generator.embed(case.y).vector,
    r"E_real": lambda case: codes(case),
}
SCORES: dict[str, Callable[..., Tensor]] = {
    r"d_real_logit": lambda case: case.scores(case.io["real"]),
    r"d_real": lambda case: squashed(case, case.scores(case.io["real"])),
    r"d_real_n(\d+)": lambda case, n: case.scores(case.io["real"][: int(n)]),
    r"d_fake": lambda case: squashed(case, case.scores(case.fake)),
}


def codes(case: Case) -> Tensor:
    """What the encoder makes of the recorded real images."""
    if case.gan.autoencoder is None:
        raise NotHere("no encoder")
    return case.gan.autoencoder.encode(case.io["real"])


def squashed(case: Case, scores: Tensor) -> Tensor:
    """Scores as recorded: after a final sigmoid where the logits were recorded beside them."""
    return scores.sigmoid() if "d_real_logit" in case.io else scores


@dataclasses.dataclass
class Row:
    """One comparison."""

    folder: str
    setting: str
    error: float | None
    tolerance: float
    why: str = ""

    @property
    def verdict(self) -> str:
        """ok, off, or why it was not compared."""
        if self.error is None:
            return self.why
        return "ok" if self.error <= self.tolerance else "**off**"


def candidates(folder: pathlib.Path) -> list[pathlib.Path]:
    """What may be opened in a folder: itself, then its files, averaged generators first and critics last."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in SIDE_FILES and p.suffix != ".tsv"]

    def rank(path: pathlib.Path) -> tuple[int, str]:
        name = path.name
        return (0 if "G_ema" in name else 2 if re.search(r"(^|=|_|net)D[._-]", name) else 1, name)

    return [folder, *sorted(files, key=rank)]


def opened(folder: pathlib.Path) -> tuple[GAN | None, str]:
    """The reference's GAN and the file that it was read from, or why none could be read."""
    complaint = "nothing to open"
    for path in candidates(folder):
        try:
            return regraft.load(path), path.name
        except RegraftError as error:
            if path.is_file() and complaint == "nothing to open":
                complaint = str(error).replace(str(folder), folder.name)
    return None, complaint


def compared(case: Case, name: str, recorded: Tensor) -> Row | None:
    """One recorded array against regraft; None if it is an input."""
    if name in LEFT_OUT:
        return Row("", name, None, 0.0, f"not compared: {LEFT_OUT[name]}")
    for table, tolerance in ((IMAGES, IMAGE_TOLERANCE), (SCORES, SCORE_TOLERANCE)):
        for pattern, call in table.items():
            match = re.fullmatch(pattern, name)
            if match is None:
                continue
            try:
                with torch.no_grad():
                    made = call(case, *match.groups()).float()
            except (NotHere, MissingCapability, NotImplementedError, AttributeError, TypeError) as error:
                return Row("", name, None, tolerance, f"not offered: {' '.join(str(error).split())[:80]}")
            if name == "w" and made.dim() == 3:  # recorded once per latent; every row of styles must be it
                recorded = recorded[:, None].expand_as(made)
            if made.numel() != recorded.numel():
                shapes = f"shape {tuple(made.shape)}, recorded {tuple(recorded.shape)}"
                return Row("", name, float("inf"), tolerance, shapes)
            difference = float((made.flatten() - recorded.flatten()).abs().max())
            scale = float(recorded.abs().max()) if table is SCORES else 1.0
            return Row("", name, difference / max(scale, 1e-12), tolerance)
    return None


def judged(folder: pathlib.Path) -> tuple[dict[str, str], list[Row]]:
    """A folder's summary and comparisons."""
    about = json.loads((folder / "about.json").read_text())
    gan, note = opened(folder)
    summary = {
        "folder": folder.name,
        "family": str(about.get("family", "")),
        "note": note,
        "format": "",
        "verdict": "unreadable",
    }
    if gan is None:
        return summary, []
    io = {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(folder / "io.npz").items()}
    case = Case(gan, {k: v.float() if v.is_floating_point() else v for k, v in io.items()})
    rows = [row for name, value in case.io.items() if (row := compared(case, name, value)) is not None]
    rows = [dataclasses.replace(row, folder=folder.name) for row in rows]
    bad = [row for row in rows if row.verdict == "**off**"]
    good = [row for row in rows if row.error is not None]
    verdict = "ok" if good and not bad else "**off**" if bad else "nothing compared"
    return summary | {"format": gan.provenance.format, "verdict": verdict}, rows


def largest(rows: list[Row]) -> float | None:
    """The worst error; what is not a number is worse than any."""
    errors = [r.error for r in rows if r.error is not None]
    return max(errors, key=lambda e: math.inf if math.isnan(e) else e, default=None)


def page(results: list[tuple[dict[str, str], list[Row]]]) -> str:
    """The results as Markdown."""
    release = torch.__version__.split("+")[0]
    lines = [
        "# Conformance",
        "",
        "Outputs of regraft against those of the authors' own code, on random-weight checkpoints in the real containers of",
        "each family.  Image error: largest absolute difference on the scale of [-1, 1]; styles, codes and embeddings count as",
        f"images.  Score error: largest difference over the largest score.  float32 on the CPU, one thread, torch {release}.",
        "An error of zero means that every number is equal to the bit.",
        "",
        "    make conformance REFERENCE=FOLDER",
        "",
        f"Tolerances: images {IMAGE_TOLERANCE:g}, scores {SCORE_TOLERANCE:g}.",
        "",
        "| reference | family | read as | image error | score error | |",
        "|---|---|---|---|---|---|",
    ]
    for summary, rows in results:
        worst = [largest([r for r in rows if r.setting.startswith("d_") == scores]) for scores in (False, True)]
        shown = " | ".join("" if w is None else f"{w:.1e}" for w in worst)
        lines.append(f"| {summary['folder']} | {summary['family']} | {summary['format']} | {shown} | {summary['verdict']} |")
    lines += ["", "## Each setting", "", "| reference | recorded | error | tolerance | |", "|---|---|---|---|---|"]
    for _, rows in results:
        for row in rows:
            error = "" if row.error is None else f"{row.error:.1e}"
            limit = f"{row.tolerance:g}" if row.error is not None else ""
            lines.append(f"| {row.folder} | {row.setting} | {error} | {limit} | {row.verdict} |")
    unread = [s for s, _ in results if s["verdict"] == "unreadable"]
    if unread:
        lines += ["", "## Not readable", ""]
        lines += [f"- {s['folder']}: {s['note'][:300]}" for s in unread]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare, write, and fail if anything is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=pathlib.Path, required=True, help="folder of reference folders")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/conformance.md"))
    given = parser.parse_args()
    folders = sorted(p.parent for p in given.reference.glob("*/io.npz"))
    if not folders:
        parser.error(f"{given.reference}: no folder in it holds an io.npz")
    torch.set_num_threads(1)
    results = [judged(folder) for folder in folders]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(page(results))
    for summary, _ in results:
        print(f"{summary['folder']:<24} {summary['verdict']:<16} {summary['format'] or summary['note'][:90]}")
    print(f"written: {given.out}")
    return 1 if any(summary["verdict"] == "**off**" for summary, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main())
