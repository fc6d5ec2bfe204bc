"""Files of which one part is wrong: what each must come to."""

import re

import pytest

import regraft
from regraft.core.errors import SourceError


def left_out(path, message):
    """The source without a critic that a file gives whose critic cannot be read; its notes say why."""
    gan = regraft.load(path)
    assert gan.critic is None
    assert gan.sample(2).std() > 0
    said = [note for note in gan.provenance.assumptions if "left out" in note]
    assert any(re.search(message, note) for note in said), gan.provenance.assumptions
    return gan


def refused(path, message):
    """A file is refused, and the error says why."""
    with pytest.raises(SourceError, match=message):
        regraft.load(path)


def judged(path, message, generator_is_wrong):
    """A file with a wrong generator is refused; one whose critic alone is wrong is loaded without it."""
    (refused if generator_is_wrong else left_out)(path, message)


def same(tensors):
    """What tells whether a state dict has been changed."""
    return {name: id(value) for name, value in tensors.items()}
