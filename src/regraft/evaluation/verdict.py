"""Judge an adapted generator in one word, with the evidence for it.

Copying and collapse are judged from samples and training images alone; whether training took too long or too short is judged
from a run's measurements.  All thresholds are relative to how real images differ from one another, so that unseen real images
in place of samples raise no alarm.  ``benchmarks/quality/planted.py`` plants each failure and counts how often it is found.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.randomness import subset
from regraft.data.nearest import small
from regraft.evaluation.copying import COPY_RADIUS, MAX_SAMPLES, MIN_HELD_OUT, NeighbourScale, critic_gap

Word = Literal["good", "still improving", "overfitting", "collapsed", "copying", "unknown"]
History = Sequence[dict[str, Any]]

DISTINCT_ALARM = 0.4
"""Share of distinct samples, over that of real images, below which the generator has collapsed."""
VARIETY_ALARM = 0.15
"""Variance of samples, over that of real images, below which the generator has collapsed."""
IMPROVING = 0.15
"""Fall of the distance over the last quarter of a run from which on the generator is still improving."""
TOLERATED_COPIES = 0.05
"""Share of samples on training images, beyond that of real images, up to which no caution is given."""
MAX_REAL = 2000
"""Real images that are all compared with one another."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One piece of evidence.

    Attributes:
        name: short name of the measure.
        value: the number.
        text: one sentence with the number and, for comparison, that of real images.
        alarm: whether it speaks against the generator.
    """

    name: str
    value: float
    text: str
    alarm: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on a generator.

    Attributes:
        word: the verdict in a word.
        sentence: the verdict in a sentence.
        findings: the evidence, alarms first.
        cautions: what could not be found out or needs a look, one sentence each.
    """

    word: Word
    sentence: str
    findings: tuple[Finding, ...]
    cautions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
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
        training: target images that it was trained on, (M, C, H, W).
        held: target images that it was not trained on, or None.
        history: measurements of its run in order: the log's ``held_out`` values with ``step`` and ``best``.
        step: step of the generator; that of the last measurement if left out.
        augmented: whether the critic saw augmented images; only if not, a gap between its scores of training and held-out
            images is an alarm.
        discrepancy: for samples without a history, their unbiased kernel discrepancy from real images, and its floor between
            halves of the real images.
        seed: draws the subsets in which distinct samples are counted.
    """
    samples = samples[:MAX_SAMPLES].cpu()
    training = training.cpu()
    real = training if held is None else torch.cat([training, held.cpu()])
    cautions = []
    if held is None or len(held) < MIN_HELD_OUT:
        held_out = "No image was" if held is None else f"Only {len(held)} image{'s were' if len(held) > 1 else ' was'}"
        cautions.append(f"{held_out} held out of training: mild overfitting cannot be told from chance.")
    if not samples.isfinite().all():
        text = "the samples hold values that are no finite numbers."
        finding = Finding("finite", float(samples.isfinite().float().mean()), text, alarm=True)
        return Verdict("collapsed", f"{_LEADS['collapsed']} {text}", (finding,), tuple(cautions))
    findings = [_variety(samples, real), _distinct(samples, real, seed)]
    copies_clause = "and training was on too few images to tell copies"
    if len(training) >= 3:
        scale = NeighbourScale(training, held)
        copies = _copies(samples, scale)
        findings.append(copies)
        copies_clause = "and no nearer to training images than real ones are"
        if copies.value - scale.natural_share > TOLERATED_COPIES:
            copies_clause = f"though {copies.value:.0%} of them lie on a training image or next to one"
            cautions.append(f"{copies.text[:1].upper()}{copies.text[1:]} Look at these before you use the generator.")
    # Collapse comes first: three images that happen to be training images are a collapse, copying is handing back them all.
    alarms: dict[Word, list[Finding]] = {
        "collapsed": [f for f in findings[:2] if f.alarm],
        "copying": [f for f in findings[2:] if f.alarm],
    }
    of_run, word, sentence = _judge_run(history, step, augmented, copies_clause)
    findings += of_run
    for alarm, reasons in alarms.items():
        if reasons:
            return Verdict(alarm, f"{_LEADS[alarm]} {reasons[0].text}", _alarms_first(findings), tuple(cautions))
    if word is not None:
        return Verdict(word, sentence, _alarms_first(findings), tuple(cautions))
    if discrepancy is not None:
        value, floor = discrepancy
        findings.append(Finding("discrepancy", value, _against_floor(value, floor)))
        if value <= 2 * floor:
            sentence = f"{_LEADS['good']} {AS_NEAR}, {copies_clause}."
            return Verdict("good", sentence, _alarms_first(findings), tuple(cautions))
    cautions.append(
        "There are too few measurements over time (three or more are needed) to know whether training was too long or too "
        "short."
    )
    text = "No sign of copying or collapse; more cannot be said from the samples and training images alone."
    return Verdict("unknown", text, _alarms_first(findings), tuple(cautions))


AS_NEAR = "the samples are as near to the target images as these are to one another, varied"
_LEADS: dict[Word, str] = {
    "good": "Good:",
    "collapsed": "Collapsed:",
    "copying": "Copying:",
    "overfitting": "Overfitting:",
    "still improving": "Still improving:",
}


def _alarms_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: not f.alarm))


def _variety(samples: Tensor, real: Tensor) -> Finding:
    """Compare the total variance of samples, as small pictures, with that of real images."""
    fake, true = (small(x).flatten(1).var(0).sum() for x in (samples, real))
    ratio = float(fake / true.clamp_min(1e-12))
    text = f"the samples vary {ratio:.0%} as much as the target images, pixel by pixel."
    return Finding("variety", ratio, text, ratio < VARIETY_ALARM)


def _distinct(samples: Tensor, real: Tensor, seed: int) -> Finding:
    """Count samples that differ from one another as real images do, in sets no larger than the real one."""
    m = min(len(samples), len(real), 200)
    rng = torch.Generator().manual_seed(seed)
    real = real[subset(len(real), MAX_REAL, seed)]
    fake, true = small(samples).flatten(1), small(real).flatten(1)
    distances = torch.cdist(true, true).fill_diagonal_(float("inf"))
    radius = float(COPY_RADIUS * distances.min(1).values.median())
    shares = {}
    for name, images in (("fake", fake), ("real", true)):
        counts = [_count_distinct(images[torch.randperm(len(images), generator=rng)[:m]], radius) for _ in range(8)]
        shares[name] = sum(counts) / len(counts) / m
    text = (
        f"of {m} samples, {shares['fake'] * m:.0f} differ from one another as the target images do "
        f"({shares['real'] * m:.0f} of {m} target images do)."
    )
    return Finding("distinct", shares["fake"], text, shares["fake"] < DISTINCT_ALARM * shares["real"])


def _count_distinct(images: Tensor, radius: float) -> int:
    """Count images (N, D) in order, leaving out each that is nearer than ``radius`` to one that was counted."""
    near = torch.cdist(images, images) < radius
    remaining = torch.ones(len(images), dtype=torch.bool)
    count = 0
    for k in range(len(images)):
        if remaining[k]:
            count += 1
            remaining &= ~near[k]
    return count


def _copies(samples: Tensor, scale: NeighbourScale) -> Finding:
    """Compare the share of samples that lie on a training image with that of real images."""
    share = scale.share_on_training_images(samples)
    text = (
        f"{share:.0%} of the samples lie less than half as far from a training image as its nearest neighbour does; "
        f"of real images, {scale.natural_share:.0%}."
    )
    return Finding("copies", share, text, scale.is_alarming(share))


def _against_floor(value: float, floor: float) -> str:
    return f"the samples differ from the target images by {value:.3g}; two halves of the target images by up to {floor:.3g}."


def _judge_run(
    history: History, step: int | None, augmented: bool, copies_clause: str
) -> tuple[list[Finding], Word | None, str]:
    """Judge a generator by its run's measurements up to its step.

    Args:
        history: measurements, as for :func:`judge`.
        step: step of the generator; that of the last measurement if None.
        augmented: whether the critic saw augmented images.
        copies_clause: end of the sentence on a good generator: how near its samples are to training images.

    Returns:
        Findings, and the verdict's word and sentence; None and "" with fewer than three measurements.
    """
    rows = [h for h in history if "kmmd_target" in h]
    if len(rows) < 3:
        return [], None, ""
    step = rows[-1]["step"] if step is None else step
    past = [h for h in rows if h["step"] <= step] or rows[:1]
    now, first, last = past[-1], rows[0], rows[-1]
    best = min([h for h in past if h.get("best", True)] or past, key=lambda h: h["kmmd_target"])
    value, floor = now["kmmd_target"], now.get("kmmd_floor", 0.0)
    findings = []
    gap = _mean_critic_gap(past[-3:])
    if gap is not None:
        sign = "no better than" if gap >= 1 else "worse than seen ones, but better than"
        text = f"the critic scores unseen target images {sign} generated ones (gap {gap:.0%}; 100 % is no better)."
        findings.append(Finding("critic gap", gap, text, gap >= 1 and not augmented))
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
    findings.append(Finding("distance", value, text, worse))
    alarms = [f for f in findings if f.alarm]
    if alarms:
        return findings, "overfitting", f"{_LEADS['overfitting']} {alarms[-1].text}"
    if now["step"] == 0 or value > 0.9 * first["kmmd_target"]:
        return (
            findings,
            "unknown",
            "The samples are no nearer to the target images than the source's own were; another source may help.",
        )
    if floor and value <= floor:
        return findings, "good", f"{_LEADS['good']} {AS_NEAR}, {copies_clause}."
    before = [h["kmmd_target"] for h in past if h["step"] <= 0.75 * now["step"]]
    if now["step"] == last["step"] and before and value < (1 - IMPROVING) * min(before):
        text = (
            f"the distance to the target images still fell by {1 - value / min(before):.0%} over the last quarter; train "
            "longer, for instance with --resume, --more and --out."
        )
        return findings, "still improving", f"{_LEADS['still improving']} {text}"
    text = f"later steps match the target images no better; the samples are varied, {copies_clause}."
    return findings, "good", f"{_LEADS['good']} {text}"


def _mean_critic_gap(rows: History) -> float | None:
    """Return the critic's gap (:func:`critic_gap`), averaged over those measurements that have one; None if none has."""
    gaps = [critic_gap(h["critic_train"], h["critic_held"], h["critic_fake"]) for h in rows if "critic_train" in h]
    known = [gap for gap in gaps if gap is not None]
    return sum(known) / len(known) if known else None
