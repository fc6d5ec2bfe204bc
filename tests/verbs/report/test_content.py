"""What a report page says of how a run was made."""

import yaml

from regraft.cli import app


def test_the_command_makes_the_same_settings(digits_run, tmp_path):
    import shlex

    from regraft.core.config import parse
    from regraft.core.jobs import AdaptJob
    from regraft.verbs.report.content import command

    job = parse(AdaptJob, yaml.safe_load((digits_run / "config.yaml").read_text()), "")
    words = shlex.split(command(job))
    again = tmp_path / "again"
    words[words.index("--out") + 1] = str(again)
    assert app.run([*words[1:], "--quiet"]) == 0
    second = yaml.safe_load((again / "config.yaml").read_text())
    assert second | {"out": None} == yaml.safe_load((digits_run / "config.yaml").read_text()) | {"out": None}
    # The same numbers, too: what the line does not say has its default.
    assert (again / "scores.json").read_text() == (digits_run / "scores.json").read_text()
