"""Curves of a report: what the log of one or several runs holds."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from regraft._charts import Line, chart
from regraft._report_parts import Subject

LOSSES = ("critic_loss", "generator_loss", "miner_loss")


def charts(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """All curves that can be drawn, as the template takes them."""
    made = _course(subjects)
    if len(subjects) == 1:
        made += [_critic(subjects[0]), _losses(subjects[0]), _selector(subjects[0]), _mined(subjects[0])]
    return [m for m in made if m is not None and m["svg"]]


def _figure(title: str, note: str, svg: str) -> dict[str, Any]:
    return {"title": title, "note": note, "svg": Markup(svg)}


def _course(subjects: Sequence[Subject]) -> list[dict[str, Any] | None]:
    """Distance to the target images and variety, one line per run."""
    if any(len(s.history) < 2 for s in subjects) or len({s.watched for s in subjects}) > 1:
        return []
    kind, _ = subjects[0].watched
    alone = len(subjects) == 1
    distance, variety = [], []
    for subject in subjects:
        rows = [r for r in subject.history if "kmmd_target" in r]
        name = "distance, with its 95 % interval" if alone else subject.name
        spread = [1.96 * r["kmmd_error"] for r in rows] if all("kmmd_error" in r for r in rows) else None
        distance.append(Line(name, [(r["step"], r["kmmd_target"]) for r in rows], spread if alone else None))
        name = "variety of samples" if alone else subject.name
        variety.append(Line(name, [(r["step"], r["variety"]) for r in rows if "variety" in r]))
    floors = [r["kmmd_floor"] for s in subjects for r in s.history if "kmmd_floor" in r]
    floor = ("two halves of the target images", floors[-1]) if floors else None
    mark = ("step kept", float(subjects[0].record["step"])) if alone else None
    told = _told(distance[0]) if alone else "One line per run."
    return [
        _figure(
            "Distance to the target images: lower is better",
            f"Kernel discrepancy of {kind} features, square-root scale; below the dashed line it is no more than chance.",
            chart(
                distance, title="Distance to the target images over steps", description=told, floor=floor, mark=mark, root=True
            ),
        ),
        _figure(
            "Variety: 1 is as varied as the target images",
            f"Variance of {kind} features, relative to that of the target images.",
            chart(
                variety, title="Variety of samples over steps", description=_told(variety[0]) if alone else "One line per run.",
                floor=("target images", 1.0), mark=mark,
            ),
        ),
    ]  # fmt: skip


def _critic(subject: Subject) -> dict[str, Any] | None:
    """What the critic thinks of seen, unseen and generated images, from where generated ones are."""
    rows = [r for r in subject.history if "critic_train" in r]
    lines = [
        Line(name, [(r["step"], r[f"critic_{key}"] - r["critic_fake"]) for r in rows])
        for key, name in (("train", "training images"), ("held", "unseen target images"))
    ]
    note = "Score above that of generated images. Memorising: unseen ones sink towards 0, training images do not."
    svg = chart(
        lines, title="Critic scores of training and unseen images", description=note, floor=("generated images", 0.0),
        mark=("step kept", float(subject.record["step"])),
    )  # fmt: skip
    return _figure("The critic's view of images it saw and did not", note, svg)


def _losses(subject: Subject) -> dict[str, Any] | None:
    rows = [r for r in subject.rows if "step" in r and "held_out" not in r]
    lines = [
        Line(name.removesuffix("_loss"), [(r["step"], r[name]) for r in rows if isinstance(r.get(name), int | float)])
        for name in LOSSES
    ]
    note = "Adversarial losses say that training was stable, not that its images are good."
    return _figure("Losses", note, chart(lines, title="Losses over steps", description=note))


def _selector(subject: Subject) -> dict[str, Any] | None:
    """Probabilities of several sources."""
    rows = [r for r in subject.rows if isinstance(r.get("selector"), list) and isinstance(r.get("step"), int)]
    rows = [r for r in rows if len(r["selector"]) == len(rows[0]["selector"])]
    if not rows:
        return None
    names = [str(s["name"]) for s in subject.record["sources"]]
    names += [f"source {k + 1}" for k in range(len(names), len(rows[0]["selector"]))]
    lines = [
        Line(f"{names[k]}: {rows[-1]['selector'][k]:.0%}", [(r["step"], r["selector"][k]) for r in rows])
        for k in range(min(6, len(rows[0]["selector"])))
    ]
    note = "How often each source's miner is chosen, in the end: " + ", ".join(line.name for line in lines) + "."
    return _figure("Which source was mined", note, chart(lines, title="Selector probabilities over steps", description=note))


def _mined(subject: Subject) -> dict[str, Any] | None:
    """The classes that were mined from most, where the log names them as {class: share}."""
    found = next((r["classes"] for r in reversed(subject.rows) if isinstance(r.get("classes"), dict)), None)
    if not found:
        return None
    top = sorted(((float(v), str(k)) for k, v in found.items() if isinstance(v, int | float)), reverse=True)[:10]
    note = "Share of samples: " + ", ".join(f"{name} {share:.0%}" for share, name in top) + "."
    return _figure("Mined classes", note, " ")


def _told(line: Line) -> str:
    """A curve in words, for those who do not see it."""
    if len(line.points) < 2:
        return ""
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    least = min(line.points, key=lambda p: p[1])
    return f"From {y0:.3g} at step {x0} to {y1:.3g} at step {x1}; least {least[1]:.3g} at step {least[0]}."
