"""Cross-domain correspondence in closed form."""

import pytest
import torch
from torch.nn import functional as F

from regraft.regularizers import cdc


def test_correspondence_in_closed_form():
    """Three images: orthogonal ones in the source, two of them alike in the adapted generator."""
    theirs, ours = torch.eye(3), torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 0, 1]])
    p = torch.tensor([1.0, 0]).softmax(0)
    divergence = (p * (p / 0.5).log()).sum()
    # The third image sees both others alike, as before.
    assert cdc.correspondence([ours], [theirs]).item() == pytest.approx(2 / 3 * divergence.item(), rel=1e-5)
    assert cdc.correspondence([5 * theirs], [theirs]).item() == pytest.approx(0, abs=1e-7)
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    rows = cdc.similarities(x)
    for i in range(6):
        wanted = [F.cosine_similarity(x[i], x[j], dim=0) for j in range(6) if j != i]
        assert torch.allclose(rows[i], torch.stack(wanted), atol=1e-6)
