"""A report page: what it holds, what it refuses, and two runs side by side."""

import dataclasses
import json
import re

import pytest
import yaml

import regraft
from regraft.cli import app
from regraft.core.errors import ConfigError
from regraft.verbs.adapting.finish import write_page
from regraft.verbs.report.page import MAX_BYTES, check_comparable
from regraft.verbs.report.subject import read
from support.pages import EVIL, Outline


class TestPage:
    def test_adapt_writes_it_with_the_verdict(self, digits_run):
        verdict = json.loads((digits_run / "verdict.json").read_text())
        page = Outline((digits_run / "report.html").read_text())
        assert verdict["word"].capitalize() in " ".join(page.text)
        for said in [*(f["text"] for f in verdict["findings"]), *verdict["cautions"]]:
            assert said[1:40] in " ".join(page.text)

    def test_it_is_one_file_that_asks_for_nothing(self, digits_run):
        text = (digits_run / "report.html").read_text()
        page = Outline(text)
        assert len(text) < MAX_BYTES
        assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", text)
        for tag in ("img", "link", "script"):
            for attributes in page.all(tag):
                assert attributes.get("src", attributes.get("href", "data:")).startswith("data:")

    def test_every_picture_is_described(self, digits_run):
        page = Outline((digits_run / "report.html").read_text())
        assert len(page.all("img")) > 40
        assert all(attributes.get("alt") for attributes in page.all("img"))
        assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in page.all("svg"))
        assert page.all("html")[0]["lang"] == "en"
        assert [a["aria-label"] for a in page.all("input")] == ["Training step"]

    def test_how_it_was_made(self, digits_run):
        text = " ".join(Outline((digits_run / "report.html").read_text()).text)
        record = json.loads((digits_run / "adapter_config.json").read_text())
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

    def test_a_page_of_someone_else_is_kept(self, digits_run, tmp_path):
        (tmp_path / "mine.html").write_text("mine")
        with pytest.raises(ConfigError, match="no page of regraft"):
            regraft.report(digits_run, tmp_path / "mine.html")

    def test_no_run(self, tmp_path):
        with pytest.raises(ConfigError, match="not a finished run"):
            regraft.report(tmp_path)


class TestComparison:
    def test_side_by_side(self, digits_run, other, tmp_path):
        text = regraft.report([digits_run, other], tmp_path / "both.html").read_text()
        page = Outline(text)
        assert "digits-run against other" in text
        assert len([t for t in page.all("td") if "best" in (t.get("class") or "")]) > 2
        assert text.count('class="line c1"') == 2, "both runs in both curves"

    def test_what_cannot_be_compared(self, digits_run, other, copied):
        with pytest.raises(ConfigError, match="the same run twice"):
            regraft.report([digits_run, digits_run])
        subject = read(digits_run)
        for part, value, match in (
            ("data", {"digest": "0"}, "different images"),
            ("image", {"size": [16, 16]}, "32x32 and 16x16"),
        ):
            record = subject.record | {part: subject.record[part] | value}
            with pytest.raises(ConfigError, match=match):
                check_comparable([subject, dataclasses.replace(subject, folder=copied, record=record)])

    def test_other_extractor(self, digits_run, copied):
        scores = json.loads((copied / "scores.json").read_text())
        for score in scores:
            score["extractor_sha256"] = "0" if score["extractor"] != "pixels" else None
        (copied / "scores.json").write_text(json.dumps(scores))
        with pytest.raises(ConfigError, match="weights of the extractor"):
            regraft.report([digits_run, copied])
        for score in scores:
            score["extractor"] = "else" if score["extractor"] != "pixels" else "pixels"
        (copied / "scores.json").write_text(json.dumps(scores))
        with pytest.raises(ConfigError, match="measured with"):
            regraft.report([digits_run, copied])
