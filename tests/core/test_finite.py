"""Numbers that are not finite are found and counted."""

import torch

from regraft.core.finite import nonfinite


def test_tensors_are_named_with_how_many():
    tensors = {
        "fine": torch.randn(4, 4),
        "counter": torch.tensor(3),
        "empty": torch.zeros(0),
        "largest": torch.full((2,), torch.finfo(torch.float32).max),
        "nan": torch.tensor([1.0, float("nan"), float("nan")]),
        "infinite": torch.tensor([[float("-inf"), 0.0]]),
        "half": torch.tensor([float("inf")], dtype=torch.float16),
    }
    assert nonfinite(tensors) == {"nan": "2 of 3 numbers", "infinite": "1 of 2 numbers", "half": "1 of 1 numbers"}
