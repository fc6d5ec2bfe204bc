"""The table of scores of a report page."""

import dataclasses

from regraft.verbs.report import page as page_module
from regraft.verbs.report.scores import score_rows
from regraft.verbs.report.subject import read


def test_copies_win_no_column(digits_run, other):
    subjects = [read(r) for r in (digits_run, other)]
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
