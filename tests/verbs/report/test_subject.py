"""What a report reads of a run: a damaged record is an error."""

import json

import pytest

import regraft
from regraft.core.errors import AdapterError


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
def test_a_damaged_record_is_an_error(copied, change):
    path = copied / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (key,) = change
    with pytest.raises(AdapterError, match=rf"adapter_config\.json: not what a run writes there \({key}"):
        regraft.report(copied)
