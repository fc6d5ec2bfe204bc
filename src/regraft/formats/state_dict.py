"""Bare ``torch.save`` or safetensors state dicts of home-made DCGANs and MLP GANs, without a card.

The critic is looked for inside the file (keys like ``netD``) or beside it (``netG.pth`` and ``netD.pth``).
"""

import pathlib
from typing import Any

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.formats import _state_dicts as state_dicts
from regraft.formats._layered import LatentHints, NetworkHints, read_pair
from regraft.formats.base import Format, Parsed, Probe, load_torch, sha256


class StateDict(Format):
    """Home-made GANs."""

    name = "state dict"
    order = 90

    def matches(self, probe: Probe) -> bool:
        """Any torch or safetensors file that no other format claimed."""
        return probe.is_torch_file or is_safetensors(probe)

    def read(self, probe: Probe) -> Parsed:
        """Read generator and, where it can be found, critic."""
        path = probe.path
        content: Any = state_dicts.read_tensors(path) if is_safetensors(probe) else probe.torch_object
        files = {path.name: sha256(path)}
        generator = state_dicts.find(content, state_dicts.GENERATOR_KEYS)
        critic = state_dicts.find(content, state_dicts.CRITIC_KEYS)
        notes = []
        if generator is None:
            generator = state_dicts.only(content, str(path))
            if critic is None:
                critic, beside = _beside(path)
                if beside:
                    files[beside.name] = sha256(beside)
                    notes.append(f"critic taken from {beside.name} beside it")
        read = read_pair(
            generator,
            critic,
            str(path),
            generator_hints=NetworkHints(),
            critic_hints=NetworkHints(),
            latent=LatentHints(),
        )
        if critic is None:
            notes.append("no critic found")
        name = path.stem
        provenance = Provenance(name=name, format=self.name, files=files, assumptions=(*notes, *read.assumptions))
        return Parsed(read.generator, read.critic, provenance)


def is_safetensors(probe: Probe) -> bool:
    """A header length of plausible size, then JSON."""
    head = probe.head
    return len(head) > 9 and int.from_bytes(head[:8], "little") < 1 << 27 and head[8:9] == b"{"


def _beside(path: pathlib.Path) -> tuple[dict[str, Tensor] | None, pathlib.Path | None]:
    for name in state_dicts.pair_name(path.name):
        other = path.with_name(name)
        if other.is_file():
            probe = Probe(other)
            try:
                content = state_dicts.read_tensors(other) if is_safetensors(probe) else load_torch(other)
                return state_dicts.only(content, str(other)), other
            except SourceError:
                continue
    return None, None


PLUGIN = StateDict()
