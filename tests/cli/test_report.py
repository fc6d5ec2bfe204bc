"""The report page: what it holds, what it refuses, and how it behaves in a real browser."""

import dataclasses
import html
import html.parser
import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import regraft
from regraft.cli import app
from regraft.core.errors import AdapterError, ConfigError
from regraft.core.gan import GAN
from regraft.evaluation.verdict import judge
from regraft.runs import records
from regraft.verbs.adapting.finish import write_page
from regraft.verbs.load import bundled_images
from regraft.verbs.report import page as page_module
from regraft.verbs.report.charts import charts
from regraft.verbs.report.images import embed, walk
from regraft.verbs.report.page import MAX_BYTES, check_comparable
from regraft.verbs.report.scores import score_rows
from regraft.verbs.report.subject import read
from support.browser import CHROMIUM, DRIVER, browser

EVIL = "<img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}</script>"
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium with its driver")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on bundled digits with everything a page can show."""
    folder = tmp_path_factory.mktemp("report") / "digits-run"
    regraft.adapt(bundled_images("scanned-sixes"), "digits-high", out=folder, steps=60, evaluate_every=20, batch=8)
    return folder


@pytest.fixture(scope="module")
def other(run):
    """The same images and source, another method."""
    folder = run.parent / "other"
    images = bundled_images("scanned-sixes")
    regraft.adapt(images, "digits-high", out=folder, steps=40, evaluate_every=20, batch=8, method="transfergan")
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A few steps of mining two sources."""
    folder = tmp_path_factory.mktemp("mining") / "mixed"
    steps = {"steps": 6, "mining_steps": 3, "evaluate_every": 2, "batch": 8, "supersamples": 50}
    regraft.adapt(bundled_images("scanned-sixes"), ["digits-low", "digits-high"], out=folder, **steps)
    return folder


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    """A few steps of mining the classes of a conditional source."""
    folder = tmp_path_factory.mktemp("mining") / "mined"
    regraft.adapt(bundled_images("scanned-sixes"), "digits", out=folder, method="minegan", steps=2, evaluate_every=0, batch=8)
    return folder


@pytest.fixture(scope="module")
def page(run):
    """The run's page in Chromium."""
    with browser() as page:
        page.open(run / "report.html")
        yield page


@pytest.fixture
def copied(run, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(run, tmp_path / "copy")


class Outline(html.parser.HTMLParser):
    """Tags with attributes, and what stands outside of them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


class TestPage:
    def test_adapt_writes_it_with_the_verdict(self, run):
        verdict = json.loads((run / "verdict.json").read_text())
        page = Outline((run / "report.html").read_text())
        assert verdict["word"].capitalize() in " ".join(page.text)
        for said in [*(f["text"] for f in verdict["findings"]), *verdict["cautions"]]:
            assert said[1:40] in " ".join(page.text)

    def test_it_is_one_file_that_asks_for_nothing(self, run):
        text = (run / "report.html").read_text()
        page = Outline(text)
        assert len(text) < MAX_BYTES
        assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", text)
        for tag in ("img", "link", "script"):
            for attributes in page.all(tag):
                assert attributes.get("src", attributes.get("href", "data:")).startswith("data:")

    def test_every_picture_is_described(self, run):
        page = Outline((run / "report.html").read_text())
        assert len(page.all("img")) > 40
        assert all(attributes.get("alt") for attributes in page.all("img"))
        assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in page.all("svg"))
        assert page.all("html")[0]["lang"] == "en"
        assert [a["aria-label"] for a in page.all("input")] == ["Training step"]

    def test_how_it_was_made(self, run):
        text = " ".join(Outline((run / "report.html").read_text()).text)
        record = json.loads((run / "adapter_config.json").read_text())
        for needed in (
            "regraft adapt",
            "--source digits-high",
            "--set steps=60",
            "Apache-2.0",
            record["versions"]["torch"],
            record["tensor_digest"],
            record["data"]["digest"],
            record["sources"][0]["generator_digest"],
        ):
            assert needed in text

    def test_the_command_makes_the_same_settings(self, run):
        import shlex

        from regraft.core.config import parse
        from regraft.core.jobs import AdaptJob
        from regraft.verbs.report.content import command

        job = parse(AdaptJob, yaml.safe_load((run / "config.yaml").read_text()), "")
        words = shlex.split(command(job))
        again = run.parent / "again"
        words[words.index("--out") + 1] = str(again)
        assert app.run([*words[1:], "--quiet"]) == 0
        second = yaml.safe_load((again / "config.yaml").read_text())
        assert second | {"out": None} == yaml.safe_load((run / "config.yaml").read_text()) | {"out": None}
        # The same numbers, too: what the line does not say has its default.
        assert (again / "scores.json").read_text() == (run / "scores.json").read_text()

    def test_without_training_images(self, copied, capsys):
        assert app.run(["report", str(copied), "--no-training-images"]) == 0
        text = (copied / "report.html").read_text()
        assert "left out of this page" in text
        assert "Nearest training image" not in text

    def test_strings_of_files_are_escaped(self, copied):
        """Names and licences come from files that people download."""
        record = json.loads((copied / "adapter_config.json").read_text())
        record["sources"][0] |= {"name": EVIL, "licence": EVIL, "dataset": EVIL, "files": {EVIL: EVIL}}
        (copied / "adapter_config.json").write_text(json.dumps(record))
        verdict = json.loads((copied / "verdict.json").read_text())
        verdict["cautions"].append(EVIL)
        (copied / "verdict.json").write_text(json.dumps(verdict))
        scores = json.loads((copied / "scores.json").read_text())
        scores[0]["name"] = EVIL
        (copied / "scores.json").write_text(json.dumps(scores))
        lines = (copied / "metrics.jsonl").read_text().splitlines()
        (copied / "metrics.jsonl").write_text("\n".join([*lines, "no json", "[1]"]) + "\n")
        text = regraft.report(copied).read_text()
        page = Outline(text)
        assert "onerror" not in str(page.tags).replace(repr(EVIL)[1:-1], "")
        assert len(page.all("script")) == 1
        assert text.count("</script>") == 1
        assert EVIL in "".join(page.text), "shown as text"

    def test_gone_images_and_an_unjudged_run_are_said(self, copied):
        (copied / "verdict.json").unlink()
        config = yaml.safe_load((copied / "config.yaml").read_text())
        (copied / "config.yaml").write_text(yaml.safe_dump(config | {"images": "gone"}))
        text = regraft.report(copied).read_text()
        assert "This run was not judged" in text
        assert "Training images are not shown" in text

    @pytest.mark.parametrize(
        ("name", "text", "note"),
        [
            (
                "verdict.json",
                "{}",
                r"The verdict is not shown: .*verdict\.json: not what a run writes there \(word: Field required",
            ),
            ("verdict.json", "[]", "The verdict is not shown"),
            ("verdict.json", "[" * 100_000, "The verdict is not shown: .*cannot be read"),
            ("verdict.json", '{"word": "good", "sentence": "Good.", "findings": [3]}', "The verdict is not shown"),
            ("scores.json", '{"a": 1}', r"Scores are not shown: .*scores\.json"),
            ("scores.json", '[{"name": "x"}]', r"Scores are not shown: .*\(0\.value: Field required"),
            ("scores.json", "no json", "Scores are not shown: .*cannot be read"),
            ("samples/step-000020.png", "no png", r"Samples of step 20 are not shown: .*step-000020\.png"),
        ],
    )
    def test_damaged_files_of_a_run_are_said_on_its_page(self, copied, name, text, note):
        (copied / name).write_text(text)
        events = []
        write_page(copied, events.append)
        assert events == [{"event": "report", "path": str(copied / "report.html")}]
        said = " ".join(Outline((copied / "report.html").read_text()).text)
        assert re.search(note, said)
        assert ("The verdict cannot be read." in said) == (name == "verdict.json")
        assert len(text) < 1000 or text not in said

    def test_odd_lines_of_the_log_are_left_out(self, copied):
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

    @pytest.mark.parametrize(
        "change",
        [
            {"data": {"n": 20}},
            {"data": {"digest": "x", "n": "20", "held_out": 5}},
            {"image": {"size": [32]}},
            {"step": "20"},
            {"sources": [{}]},
            {"findings": []},
            {"config": {"miner": None}},
            {"versions": None},
        ],
    )
    def test_a_damaged_record_is_an_error(self, copied, change):
        path = copied / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        (key,) = change
        with pytest.raises(AdapterError, match=rf"adapter_config\.json: not what a run writes there \({key}"):
            regraft.report(copied)

    def test_a_page_of_someone_else_is_kept(self, run, tmp_path):
        (tmp_path / "mine.html").write_text("mine")
        with pytest.raises(ConfigError, match="no page of regraft"):
            regraft.report(run, tmp_path / "mine.html")

    def test_no_run(self, tmp_path):
        with pytest.raises(ConfigError, match="not a finished run"):
            regraft.report(tmp_path)

    def test_large_pictures_are_made_small(self):
        picture = Image.frombytes("RGB", (2000, 1000), np.random.default_rng(0).bytes(6_000_000))
        made = embed(picture, 512)
        assert (made["width"], made["height"]) == (512, 256)
        assert len(made["uri"]) < 200_000
        assert picture.size == (2000, 1000)


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

    def test_the_walk_stays_in_one_source(self, mixed, monkeypatch):
        """A source's number is no place on the way from one latent to the next."""
        subject, walked = read(mixed), []
        drawn = subject.gan.generator.latent.at(subject.job.seed, range(3))[:, 0].tolist()
        assert len(set(drawn)) == 2, "this seed's first latents are of both sources"
        at = GAN.at
        monkeypatch.setattr(GAN, "at", lambda gan, z, *more, **named: walked.append(z) or at(gan, z, *more, **named))
        assert len(walk(subject, 96)) == 16
        assert set(walked[0][:, 0].tolist()) == {float(np.argmax(subject.record["findings"]["p"]))}
        assert len(walked[0][:, 1:].unique(dim=0)) == 16

    def test_runs_that_mined_nothing_say_nothing_of_it(self, run):
        assert not [f["title"] for f in charts([read(run)]) if "mined" in f["title"]]


class TestComparison:
    def test_side_by_side(self, run, other, tmp_path):
        text = regraft.report([run, other], tmp_path / "both.html").read_text()
        page = Outline(text)
        assert "digits-run against other" in text
        assert len([t for t in page.all("td") if "best" in (t.get("class") or "")]) > 2
        assert text.count('class="line c1"') == 2, "both runs in both curves"

    def test_copies_win_no_column(self, run, other):
        subjects = [read(r) for r in (run, other)]
        copier = [dict(s) for s in subjects[0].scores]
        for score in copier:
            if score["name"].startswith("copies["):
                score |= {"value": 1.0, "interval": (0.9, 1.0), "n_real": 40}
            elif score["better"] == "lower":
                score["value"] = 0.0
        copying = dataclasses.replace(subjects[0], scores=copier)
        table = score_rows([copying, subjects[1]])
        assert not any(row["cells"][0]["best"] for row in table)
        assert any(row["cells"][1]["best"] for row in table)
        assert any(row["replayed"] for row in table)
        assert "too many samples are copies of training images" in page_module.page([copying, subjects[1]])
        assert "too many samples" not in page_module.page(subjects)

    def test_what_cannot_be_compared(self, run, other, copied):
        with pytest.raises(ConfigError, match="the same run twice"):
            regraft.report([run, run])
        subject = read(run)
        for part, value, match in (
            ("data", {"digest": "0"}, "different images"),
            ("image", {"size": [16, 16]}, "32x32 and 16x16"),
        ):
            record = subject.record | {part: subject.record[part] | value}
            with pytest.raises(ConfigError, match=match):
                check_comparable([subject, dataclasses.replace(subject, folder=copied, record=record)])

    def test_other_extractor(self, run, copied):
        scores = json.loads((copied / "scores.json").read_text())
        for score in scores:
            score["extractor_sha256"] = "0" if score["extractor"] != "pixels" else None
        (copied / "scores.json").write_text(json.dumps(scores))
        with pytest.raises(ConfigError, match="weights of the extractor"):
            regraft.report([run, copied])
        for score in scores:
            score["extractor"] = "else" if score["extractor"] != "pixels" else "pixels"
        (copied / "scores.json").write_text(json.dumps(scores))
        with pytest.raises(ConfigError, match="measured with"):
            regraft.report([run, copied])


@needs_browser
class TestInChromium:
    def test_it_opens_without_error_and_asks_for_nothing(self, page, run):
        assert page.run("return document.readyState") == "complete"
        assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0 || i.hidden)")
        own = (run / "report.html").resolve().as_uri()
        assert {u for u in page.requests() if not u.startswith(("data:", "chrome"))} == {own}
        assert page.console() == []

    def test_the_slider_shows_each_step(self, page):
        count = page.run("return document.querySelectorAll('#frames img').length")
        assert count == 4
        shown = set()
        for k in range(count):
            page.run(
                "const s = document.getElementById('slider'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))", k
            )
            visible = page.run(
                "return [...document.querySelectorAll('#frames img')].filter(i => i.getClientRects().length).map(i => i.alt)"
            )
            assert visible == [f"Samples at step {20 * k}"]
            assert page.run("return document.getElementById('label').value").startswith(f"step {20 * k}")
            shown.update(visible)
        assert len(shown) == count

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_it_fits_every_screen_and_is_legible(self, page, width, scheme):
        page.screen(width, 800, mobile=width < 500)
        page.media(scheme)
        assert page.run("return document.documentElement.scrollWidth") <= width
        worst = page.run(CONTRAST)
        assert worst["ratio"] >= 4.5, worst

    def test_the_policy_stops_what_was_not_ours(self, page, run, tmp_path):
        """Were a script or an address to slip through the escaping, the page would not run or fetch it."""
        text = (run / "report.html").read_text()
        evil = tmp_path / "evil.html"
        evil.write_text(
            text.replace("</main>", "<script>bad = 1</script><img src='http://127.0.0.1:9/x.png' onerror='bad=2'></main>")
        )
        page.open(evil)
        assert page.run("return window.bad === undefined")
        assert page.run("return document.getElementById('slider') !== null")
        assert any("Content Security Policy" in message for message in page.console())


# The lowest contrast of any visible text with what lies behind it, as WCAG 2 computes it.
CONTRAST = """
const light = c => { const v = c.slice(0, 3).map(x => x / 255)
  .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const parse = s => (s.match(/[\\d.]+/g) || []).map(Number);
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
let worst = { ratio: 99 };
for (const e of document.querySelectorAll("body *")) {
  if (!e.getClientRects().length || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const style = getComputedStyle(e), svg = e.closest("svg");
  if (svg && ["title", "desc"].includes(e.tagName)) continue;
  const a = light(parse(svg ? style.fill : style.color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < worst.ratio) worst = { ratio, text: e.textContent.slice(0, 40), tag: e.tagName };
}
return worst;
"""
