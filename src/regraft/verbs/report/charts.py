"""Draw the figures of a page: curves from the logs of one or several runs, and tables of what the method learned."""

from collections.abc import Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from regraft.verbs.report.subject import Subject, class_names
from regraft.verbs.report.svg import Line, chart

LOSSES = ("critic_loss", "generator_loss", "miner_loss")
MOST_LINES = 6
MOST_CLASSES = 10


def charts(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Draw every figure that the logs allow, as the template takes them."""
    figures = _distance_and_variety(subjects)
    if len(subjects) == 1:
        (subject,) = subjects
        figures += [
            _recall_and_copies(subject),
            _critic_scores(subject),
            _losses(subject),
            _selector(subject),
            *_mined_classes(subject),
        ]
    return [figure for figure in figures if figure is not None and figure["svg"]]


def _figure(title: str, note: str, svg: str) -> dict[str, Any]:
    return {"title": title, "note": note, "svg": Markup(svg)}


def _distance_and_variety(subjects: Sequence[Subject]) -> list[dict[str, Any] | None]:
    """Draw the distance to the target images and the variety over steps, one line per run."""
    if any(len(s.history) < 2 for s in subjects) or len({s.curve_extractor for s in subjects}) > 1:
        return []
    extractor, _ = subjects[0].curve_extractor
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
    description = _describe(distance[0]) if alone else "One line per run."
    return [
        _figure(
            "Distance to the target images: lower is better",
            f"Kernel discrepancy of {extractor} features, square-root scale; below the dashed line it is no more than chance.",
            chart(
                distance,
                title="Distance to the target images over steps",
                description=description,
                floor=floor,
                mark=mark,
                root=True,
            ),
        ),
        _figure(
            "Variety: 1 is as varied as the target images",
            f"Variance of {extractor.partition('+')[0]} features, relative to that of the target images.",
            chart(
                variety,
                title="Variety of samples over steps",
                description=_describe(variety[0]) if alone else "One line per run.",
                floor=("target images", 1.0),
                mark=mark,
            ),
        ),
    ]


def _recall_and_copies(subject: Subject) -> dict[str, Any] | None:
    rows = [r for r in subject.history if "recall" in r and "copies" in r]
    if len(rows) < 2:
        return None
    lines = [
        Line(name, [(r["step"], r[key]) for r in rows])
        for key, name in (
            ("recall", "recall: target images like some sample"),
            ("copies", "copies: samples on a training image"),
        )
    ]
    note = "Memorising: both rise together. Collapse: recall falls."
    mark = ("step kept", float(subject.record["step"]))
    svg = chart(lines, title="Recall and copies over steps", description=" ".join(map(_describe, lines)), mark=mark)
    return _figure("Recall of target images, and copies of training images", note, svg)


def _critic_scores(subject: Subject) -> dict[str, Any] | None:
    """Draw the critic's mean scores of training and unseen images, above its mean score of generated ones."""
    rows = [r for r in subject.history if "critic_train" in r]
    lines = [
        Line(name, [(r["step"], r[f"critic_{key}"] - r["critic_fake"]) for r in rows])
        for key, name in (("train", "training images"), ("held", "unseen target images"))
    ]
    note = "Score above that of generated images. Memorising: unseen ones sink towards 0, training images do not."
    svg = chart(
        lines,
        title="Critic scores of training and unseen images",
        description=note,
        floor=("generated images", 0.0),
        mark=("step kept", float(subject.record["step"])),
    )
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
    """Draw the probabilities of several sources over steps, and list those of the kept generator."""
    findings = subject.record.get("findings") or {}
    probabilities = _numbers(findings.get("p"))
    if not probabilities:
        return None
    names = [_source_name(subject, k) for k in range(len(probabilities))]
    likeliest = sorted(range(len(probabilities)), key=lambda k: -probabilities[k])
    lines = [
        Line(names[k], [(r["step"], r[f"p{k}"]) for r in subject.rows if isinstance(r.get(f"p{k}"), int | float)])
        for k in likeliest[:MOST_LINES]
    ]
    note = "How often each source makes an image: over steps, and in the kept generator beside what was measured at the end."
    svg = chart(
        lines, title="Selector probabilities over steps", description=note, mark=("step kept", float(subject.record["step"]))
    )
    columns = {"Probability": probabilities} | {
        head: shares
        for head, key in (("Wins at the end", "win_shares"), ("Target images like it", "target_shares"))
        if len(shares := _numbers(findings.get(key))) == len(probabilities)
    }
    rows = [[names[k], *(f"{shares[k]:.1%}" for shares in columns.values())] for k in likeliest]
    return _figure("Which source was mined", note, svg + _table(["Source", *columns], rows))


def _mined_classes(subject: Subject) -> list[dict[str, Any] | None]:
    """List the classes that were mined most, in one table per conditional source."""
    mined = (subject.record.get("findings") or {}).get("mined_classes")
    onehot = subject.record["config"].get("miner", {}).get("classes") == "onehot"
    figures: list[dict[str, Any] | None] = []
    for number, values in enumerate(mined if isinstance(mined, list) else []):
        shares, source = _numbers(values), _source_name(subject, number)
        if not shares:
            continue
        names = class_names(subject, number)
        names = names if len(names) == len(shares) else tuple(f"class {k}" for k in range(len(shares)))
        top = sorted(range(len(shares)), key=lambda k: -shares[k])[:MOST_CLASSES]
        rows = [[names[k], f"{shares[k]:.1%}"] for k in top]
        if len(shares) > len(top):
            rows.append([f"the other {len(shares) - len(top)}", f"{max(0.0, sum(shares) - sum(shares[k] for k in top)):.1%}"])
        note = f"How much of each class of {source} is asked for, on average."
        if not onehot:
            note = f"How often what is asked for is nearest to each class of {source}."
        figures.append(_figure(f"Classes mined from {source}", note, _table(["Class of the source", "Share of samples"], rows)))
    return figures


def _source_name(subject: Subject, number: int) -> str:
    """Return the name of a run's source ``number``."""
    sources = subject.record["sources"]
    return str(sources[number]["name"]) if number < len(sources) else f"source {number}"


def _numbers(value: object) -> list[float]:
    """Return a value of a file if it is a list of numbers, else an empty list."""
    if isinstance(value, list) and all(isinstance(number, int | float) for number in value):
        return [float(number) for number in value]
    return []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make an HTML table whose first column names its rows; every text is escaped."""
    top = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = [
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells) + "</tr>"
        for name, *cells in rows
    ]
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _describe(line: Line) -> str:
    """Describe a curve in words, for those who do not see it."""
    if len(line.points) < 2:
        return ""
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    least = min(line.points, key=lambda p: p[1])
    return f"From {y0:.3g} at step {x0} to {y1:.3g} at step {x1}; least {least[1]:.3g} at step {least[0]}."
