"""Lists of plug-ins."""

import regraft


def test_lists():
    assert {"scratch", "transfergan", "freezed", "minegan"} <= set(regraft.list_methods())
    assert {"frechet", "kmmd", "mean_variance", "copies"} <= set(regraft.list_metrics())
