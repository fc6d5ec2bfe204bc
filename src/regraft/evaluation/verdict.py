"""One plain word on an adapted generator, with the evidence for it.

Copying and collapse are seen from samples and training images alone; whether training went on too long, or ended too early, is
seen from a run's measurements.  All thresholds are set against what real images do among themselves, so that real unseen images
in place of samples raise no alarm; ``benchmarks/quality/planted.py`` plants each failure and counts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.randomness import subset
from regraft.data.nearest import small
from regraft.evaluation.copying import COPY_RADIUS, MAX_SAMPLES, NeighbourScale, critic_gap

Word = Literal["good", "still improving", "overfitting", "collapsed", "copying", "unknown"]
History = Sequence[dict[str, Any]]

DISTINCT_ALARM = 0.4
VARIETY_ALARM = 0.15
IMPROVING = 0.15
TOLERATED = 0.05  # share of copies beyond what real images have that is not worth a word
MOST_REAL = 2000  # images that all are compared with all of


@dataclasses.dataclass(frozen=True)
class Finding:
    """One piece of evidence.

    Attributes:
        name: short name of what was measured.
        value: the number.
        text: one sentence with the number and what real images do.
        alarm: whether it speaks against the generator.
    """

    name: str
    value: float
    text: str
    alarm: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to be said of a generator.

    Attributes:
        word: the verdict.
        sentence: the verdict in a sentence.
        findings: evidence, alarms first.
        cautions: what could not be known, one sentence each.
    """

    word: Word
    sentence: str
    findings: tuple[Finding, ...]
    cautions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return dataclasses.asdict(self)


def judge(
    samples: Tensor,
    training: Tensor,
    held: Tensor | None = None,
    *,
    history: History = (),
    step: int | None = None,
    augmented: bool = True,
    discrepancy: tuple[float, float] | None = None,
    seed: int = 0,
) -> Verdict:
    """Judge a generator.

    Args:
        samples: its images, (N, C, H, W) in [-1, 1].
        training: images that it was trained on.
        held: target images that it was not trained on, if there are any.
        history: a run's measurements: the log's ``held_out`` values with ``step`` and ``best``, in order.
        step: of the generator; the last measurement's if left out.
        augmented: whether the critic saw augmented images; without, its gap between seen and unseen images counts.
        discrepancy: unbiased kernel discrepancy of the samples from real images and the floor between real ones, for samples
            without a history.
        seed: of the subsets that variety is counted in.
    """
    samples = samples[:MAX_SAMPLES].cpu()
    training = training.cpu()
    real = training if held is None else torch.cat([training, held.cpu()])
    cautions = []
    if held is None or len(held) < 20:
        n = "No image was" if held is None else f"Only {len(held)} image{'s were' if len(held) > 1 else ' was'}"
        cautions.append(f"{n} kept from training: mild overfitting cannot be told from chance.")
    if not samples.isfinite().all():
        text = "the samples hold values that are no finite numbers."
        finding = Finding("finite", float(samples.isfinite().float().mean()), text, alarm=True)
        return Verdict("collapsed", f"{_LEADS['collapsed']} {text}", (finding,), tuple(cautions))
    found = [_variety(samples, real), _distinct(samples, real, seed)]
    apart = "and training was on too few images to tell copies"
    if len(training) >= 3:
        scale = NeighbourScale(training, held)
        found.append(_copies(samples, scale))
        excess = found[-1].value - scale.natural_share
        apart = "and no nearer to training images than real ones are"
        if excess > TOLERATED:
            apart = f"though {found[-1].value:.0%} of them lie on a training image or next to one"
            cautions.append(f"{found[-1].text[:1].upper()}{found[-1].text[1:]} Look at these before you use the generator.")
    named: dict[str, list[Finding]] = {
        "collapsed": [f for f in found[:2] if f.alarm],
        "copying": [f for f in found[2:] if f.alarm],
    }
    course, word, sentence = _course(history, step, augmented, apart)
    found += course
    for alarm, reasons in named.items():
        if reasons:
            # Three images that happen to be training images are a collapse; copying names the whole set handed back.
            return Verdict(alarm, f"{_LEADS[alarm]} {reasons[0].text}", _sorted(found), tuple(cautions))  # type: ignore[arg-type]
    if word is not None:
        return Verdict(word, sentence, _sorted(found), tuple(cautions))
    if discrepancy is not None:
        value, floor = discrepancy
        near = value <= 2 * floor
        found.append(Finding("discrepancy", value, _against_floor(value, floor)))
        if near:
            return Verdict("good", f"{_LEADS['good']} {AS_NEAR}, {apart}.", _sorted(found), tuple(cautions))
    cautions.append(
        "There are too few measurements over time (three or more are needed): whether training went on too long or not long "
        "enough cannot be known."
    )
    text = "No sign of copying or collapse; more cannot be said from the samples and training images alone."
    return Verdict("unknown", text, _sorted(found), tuple(cautions))


AS_NEAR = "the samples are as near to the target images as these are to one another, varied"
_LEADS = {
    "good": "Good:",
    "collapsed": "Collapsed:",
    "copying": "Copying:",
    "overfitting": "Overfitting:",
    "still improving": "Still improving:",
}


def _sorted(found: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda f: not f.alarm))


def _variety(samples: Tensor, real: Tensor) -> Finding:
    """Total variance of small pictures against that of real ones."""
    fake, true = (small(x).flatten(1).var(0).sum() for x in (samples, real))
    ratio = float(fake / true.clamp_min(1e-12))
    text = f"the samples vary {ratio:.0%} as much as the target images, pixel by pixel."
    return Finding("variety", ratio, text, ratio < VARIETY_ALARM)


def _distinct(samples: Tensor, real: Tensor, seed: int) -> Finding:
    """Share of samples that differ from one another as real images do, in sets as large as the real one."""
    m = min(len(samples), len(real), 200)
    rng = torch.Generator().manual_seed(seed)
    real = real[subset(len(real), MOST_REAL, seed)]
    fake, true = small(samples).flatten(1), small(real).flatten(1)
    between = torch.cdist(true, true).fill_diagonal_(float("inf"))
    radius = float(COPY_RADIUS * between.min(1).values.median())
    shares = {}
    for name, images in (("fake", fake), ("real", true)):
        counts = [_leaders(images[torch.randperm(len(images), generator=rng)[:m]], radius) for _ in range(8)]
        shares[name] = sum(counts) / len(counts) / m
    text = (
        f"of {m} samples, {shares['fake'] * m:.0f} differ from one another as the target images do "
        f"({shares['real'] * m:.0f} of {m} target images do)."
    )
    return Finding("distinct", shares["fake"], text, shares["fake"] < DISTINCT_ALARM * shares["real"])


def _leaders(images: Tensor, radius: float) -> int:
    """How many images are left if each takes along all that are nearer than ``radius``."""
    close = torch.cdist(images, images) < radius
    left = torch.ones(len(images), dtype=torch.bool)
    count = 0
    for k in range(len(images)):
        if left[k]:
            count += 1
            left &= ~close[k]
    return count


def _copies(samples: Tensor, scale: NeighbourScale) -> Finding:
    """Share of samples that lie nearer to a training image than half its distance to its nearest other one."""
    copied = scale.share_on_training_images(samples)
    text = (
        f"{copied:.0%} of the samples lie less than half as far from a training image as its nearest neighbour does; "
        f"of real images, {scale.natural_share:.0%}."
    )
    return Finding("copies", copied, text, scale.is_alarming(copied))


def _against_floor(value: float, floor: float) -> str:
    return f"the samples differ from the target images by {value:.3g}; two halves of the target images by up to {floor:.3g}."


def _course(history: History, step: int | None, augmented: bool, apart: str) -> tuple[list[Finding], Word | None, str]:
    """What a run's measurements say of its generator at a step: findings, and the word and sentence where they decide.

    ``apart`` says, for a good one, how its samples lie to training images.
    """
    rows = [h for h in history if "kmmd_target" in h]
    if len(rows) < 3:
        return [], None, ""
    step = rows[-1]["step"] if step is None else step
    past = [h for h in rows if h["step"] <= step] or rows[:1]
    now, first, last = past[-1], rows[0], rows[-1]
    best = min([h for h in past if h.get("best", True)] or past, key=lambda h: h["kmmd_target"])
    value, floor = now["kmmd_target"], now.get("kmmd_floor", 0.0)
    found = []
    gap = _critic_gap(past[-3:])
    if gap is not None:
        sign = "no better than" if gap >= 1 else "worse than seen ones, but better than"
        text = f"the critic scores unseen target images {sign} generated ones (gap {gap:.0%}; 100 % is no better)."
        found.append(Finding("critic gap", gap, text, gap >= 1 and not augmented))
    worse = len(past) >= 3 and not any(h.get("best", True) for h in past[-2:]) and value > floor
    if worse and value <= best["kmmd_target"]:
        text = (
            f"the samples come nearer to the target images after step {best['step']} only as training images are memorised "
            f"({best['kmmd_target']:.3g} there, {value:.3g} at step {now['step']})."
        )
    elif worse:
        text = (
            f"the distance to the target images was {best['kmmd_target']:.3g} at step {best['step']} and rose to {value:.3g} "
            f"at step {now['step']}."
        )
    else:
        text = f"the distance to the target images went from {first['kmmd_target']:.3g} to {value:.3g} at step {now['step']}"
        text += f"; two halves of the target images are up to {floor:.3g} apart." if floor else "."
    found.append(Finding("distance", value, text, worse))
    alarms = [f for f in found if f.alarm]
    if alarms:
        return found, "overfitting", f"{_LEADS['overfitting']} {alarms[-1].text}"
    if now["step"] == 0 or value > 0.9 * first["kmmd_target"]:
        return (
            found,
            "unknown",
            "The samples are no nearer to the target images than the source's own were; another source may help.",
        )
    if floor and value <= floor:
        return found, "good", f"{_LEADS['good']} {AS_NEAR}, {apart}."
    before = [h["kmmd_target"] for h in past if h["step"] <= 0.75 * now["step"]]
    if now["step"] == last["step"] and before and value < (1 - IMPROVING) * min(before):
        fell = 1 - value / min(before)
        more = f"the distance to the target images still fell by {fell:.0%} over the last quarter; train longer, "
        more += "for instance with --resume, --more and --out."
        return found, "still improving", f"{_LEADS['still improving']} {more}"
    text = f"later steps match the target images no better; the samples are varied, {apart}."
    return found, "good", f"{_LEADS['good']} {text}"


def _critic_gap(rows: History) -> float | None:
    """The critic's gap, as a mean over measurements."""
    scored = [h for h in rows if "critic_train" in h]
    gaps = [critic_gap(h["critic_train"], h["critic_held"], h["critic_fake"]) for h in scored]
    known = [gap for gap in gaps if gap is not None]
    return sum(known) / len(known) if known else None
