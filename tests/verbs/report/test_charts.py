"""The charts of a report page."""

import dataclasses
import html
import html.parser
import json
import re

import numpy as np
import pytest
import torch

import regraft
from regraft.core.gan import GAN
from regraft.evaluation.verdict import judge
from regraft.runs import records
from regraft.verbs.report.charts import charts
from regraft.verbs.report.subject import read
from support.pages import EVIL


def figure(subject, title):
    """The figure of that title, its table as rows of texts, and the curves in it as points (x, height)."""
    (found,) = [f for f in charts([subject]) if f["title"] == title]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", found["svg"])]
    paths = re.findall(r'class="line c\d" d="M([^"]*)"', found["svg"])
    return found, rows, [np.array([list(map(float, point.split())) for point in path.split("L")]) for path in paths]


class TestMining:
    def test_probabilities_of_sources_over_steps_and_in_the_end(self, mixed):
        subject = read(mixed)
        logged = [(row["p0"], row["p1"]) for row in subject.rows if "p0" in row]
        _, (head, *rows), curves = figure(subject, "Which source was mined")
        kept = dict(zip(("digits-low", "digits-high"), subject.record["findings"]["p"], strict=True))
        assert head[:2] == ["Source", "Probability"]
        assert {name: share for name, share, *_ in rows} == {name: f"{p:.1%}" for name, p in kept.items()}
        assert len(logged) > 2
        assert [len(curve) for curve in curves] == [len(logged)] * 2
        drawn = dict(zip((name for name, *_ in rows), curves, strict=True))  # the likeliest first, as in the table
        heights = np.concatenate([drawn["digits-low"][:, 1], drawn["digits-high"][:, 1]])
        assert np.corrcoef(heights, np.array(logged).T.ravel())[0, 1] == pytest.approx(-1, abs=1e-3)
        text = (mixed / "report.html").read_text()
        assert "Selector probabilities over steps" in text
        assert f'<td class="n">{kept["digits-low"]:.1%}</td>' in text

    def test_mined_classes_by_share(self, mined):
        (shares,) = json.loads((mined / "adapter_config.json").read_text())["findings"]["mined_classes"]
        found, (_, *rows), _ = figure(read(mined), "Classes mined from digits")
        assert sorted(rows) == sorted([f"class {k}", f"{share:.1%}"] for k, share in enumerate(shares))
        assert [name for name, _ in rows[:1]] == [f"class {np.argmax(shares)}"]
        assert "nearest to each class of digits" in found["note"]
        assert "Classes mined from digits" in (mined / "report.html").read_text()

    def test_names_of_classes_where_they_are_known(self, mined):
        """Names come from files that people download."""
        subject = read(mined)
        names = (EVIL, *"abcdefghi")
        origin = dataclasses.replace(subject.source.provenance, classes=names)
        source = GAN(subject.source.generator, subject.source.critic, provenance=origin)
        found, (_, *rows), _ = figure(dataclasses.replace(subject, source=source), "Classes mined from digits")
        assert sorted(html.unescape(name) for name, _ in rows) == sorted(names)
        assert EVIL not in found["svg"]

    @pytest.mark.parametrize("gone", [False, True])
    def test_names_of_a_later_sources_classes(self, mined, tmp_path, gone):
        subject, digits = read(mined), regraft.load("digits")
        digits.provenance = dataclasses.replace(digits.provenance, classes=tuple("abcdefghij"))
        where = tmp_path / "gone" if gone else regraft.convert(digits, tmp_path / "named")
        (shares,) = subject.record["findings"]["mined_classes"]
        record = subject.record | {"findings": {"mined_classes": [None, shares]}}
        record["sources"] = [*record["sources"], record["sources"][0] | {"name": "named"}]
        subject = dataclasses.replace(
            subject, record=record, job=subject.job.model_copy(update={"sources": ("digits-low", str(where))})
        )
        _, (_, *rows), _ = figure(subject, "Classes mined from named")
        wanted = [f"class {k}" for k in range(10)] if gone else list("abcdefghij")
        assert sorted(name for name, _ in rows) == wanted

    def test_runs_that_mined_nothing_say_nothing_of_it(self, digits_run):
        assert not [f["title"] for f in charts([read(digits_run)]) if "mined" in f["title"]]


def test_odd_lines_of_the_log_are_left_out(copied):
    """What is left is drawn; the verdict goes by the same lines."""
    log = copied / "metrics.jsonl"
    before = charts([read(copied)])
    odd = [
        {"held_out": 3, "step": 1},
        {"held_out": {"kmmd_target": 0.1}},
        {"step": "x", "critic_loss": 1.0},
        {"step": None},
        {"held_out": {"kmmd_target": "low", "variety": [1], "critic_train": 1.0}, "step": 50},
        {"critic_loss": 1.0},
        3,
    ]
    more = [*map(json.dumps, odd), '{"step": 1' + "0" * 400 + "}", "[" * 100_000]
    log.write_text("\n".join([*more, log.read_text()]))
    assert charts([read(copied)]) == before
    rows = records.history(records.read_log(log))
    judge(*torch.randn(3, 30, 1, 8, 8, generator=torch.Generator().manual_seed(0)), history=rows)
