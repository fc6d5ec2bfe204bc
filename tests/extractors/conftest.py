"""A program that tests of several extractors run."""

import pytest
import torch

from support.extractor_files import Program
from support.toys import save_program


@pytest.fixture
def program(tmp_path):
    """A TorchScript program of random weights."""
    torch.manual_seed(0)
    path = tmp_path / "program.pt"
    save_program(Program(), path)
    return path
