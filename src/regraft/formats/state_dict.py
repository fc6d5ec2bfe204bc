"""Bare ``torch.save`` or safetensors state dicts of home-made DCGANs and MLP GANs, without a card.

The critic is looked for inside the file (keys like ``netD``) or beside it (``netG.pth`` and ``netD.pth``).
"""

import contextlib
import pathlib

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats import _order
from regraft.formats._choice import Chosen, choose_critic, critic_of, generator_of, not_used
from regraft.formats._hints import LatentHints, NetworkHints
from regraft.formats._layered import infer_pair
from regraft.formats._state_dicts import clean, critic_names, read_safetensors, read_weights
from regraft.formats.base import Format, Parsed, Probe


class StateDict(Format):
    """Home-made GANs."""

    name = "state dict"
    order = 90

    def matches(self, probe: Probe) -> bool:
        """Whether it is any torch or safetensors file; formats that ask for more come before."""
        return probe.is_torch_file or _is_safetensors(probe)

    def read(self, probe: Probe) -> Parsed:
        """Read generator and, where it can be found, critic."""
        path = probe.path
        content: object = read_safetensors(path) if _is_safetensors(probe) else probe.torch_object
        files = {path.name: sha256(path)}
        chosen, found = generator_of(content, str(path))
        critic, notes = choose_critic(found, str(path))
        notes = [*chosen.notes, *_places(chosen, critic), *notes]
        notes += not_used(found, chosen, critic)
        critic_path = None
        if critic is None and not any(f.role == "critic" for f in found):
            critic, critic_path = _critic_beside(path)
            if critic_path:
                files[critic_path.name] = sha256(critic_path)
                notes.append(f"critic taken from {critic_path.name} beside it")
        generator = clean(chosen.tensors)
        if _is_safetensors(probe):
            _order.check_alphabetical(generator, str(path), "generator")
        inferred = infer_pair(
            generator,
            None if critic is None else clean(critic.tensors),
            str(path),
            generator_hints=NetworkHints(file=path.name),
            critic_hints=NetworkHints(file=critic_path.name if critic_path else path.name),
            latent=LatentHints(),
        )
        if critic is None:
            notes.append("no critic found")
        assumptions = (*notes, *inferred.assumptions)
        provenance = Provenance(name=path.stem, format=self.name, files=files, assumptions=assumptions)
        return Parsed(inferred.generator, inferred.critic, provenance)


def _is_safetensors(probe: Probe) -> bool:
    """Whether a file begins with a header's length of plausible size, then JSON."""
    head = probe.head
    return len(head) > 9 and int.from_bytes(head[:8], "little") < 1 << 27 and head[8:9] == b"{"


def _places(generator: Chosen, critic: Chosen | None) -> list[str]:
    """Say where in one state dict the networks were found, if it holds several."""
    if not generator.found.prefix or generator.base:
        return []
    also = f", the critic from {critic.found.place}" if critic else ""
    return [f"The generator was taken from {generator.found.place}{also}."]


def _critic_beside(path: pathlib.Path) -> tuple[Chosen | None, pathlib.Path | None]:
    """The critic in a file beside the generator's whose name fits, and that file; None twice if there is none."""
    for name in critic_names(path.name):
        other = path.with_name(name)
        if other.is_file():
            with contextlib.suppress(SourceError):
                return critic_of(read_weights(other), str(other)), other
    return None, None


PLUGIN = StateDict()
