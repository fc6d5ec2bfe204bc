"""Bare ``torch.save`` or safetensors state dicts of home-made DCGANs and MLP GANs, without a card.

The critic is looked for inside the file (keys like ``netD``) or beside it (``netG.pth`` and ``netD.pth``).
"""

import pathlib

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats import _order
from regraft.formats._choice import Chosen, choose_critic, critic_of, generator_of, not_used
from regraft.formats._hints import LatentHints, NetworkHints
from regraft.formats._layered import InferredPair, infer_pair
from regraft.formats._pairs import critics_of, generator_beside, generator_in
from regraft.formats._state_dicts import clean, read_safetensors, read_weights
from regraft.formats.base import Format, Parsed, Probe, optional


class StateDict(Format):
    """Home-made GANs."""

    name = "state dict"
    order = 90

    def matches(self, probe: Probe) -> bool:
        """Whether it is any torch or safetensors file; formats that ask for more come before."""
        return probe.is_torch_file or _is_safetensors(probe)

    def generator_in(self, folder: pathlib.Path) -> pathlib.Path | None:
        """The generator's file in a folder that holds the files of one GAN, by their names."""
        return generator_in(folder)

    def read(self, probe: Probe) -> Parsed:
        """Read generator and, where it can be found, critic."""
        try:
            return self._read(probe)
        except SourceError as error:
            generator = generator_beside(probe.path)
            if generator is None:
                raise
            raise SourceError(f"{error} By its name this is the critic of {generator.name}; name that file instead.") from None

    def _read(self, probe: Probe) -> Parsed:
        path = probe.path
        content: object = read_safetensors(path) if _is_safetensors(probe) else probe.torch_object
        files = {path.name: sha256(path)}
        chosen, found = generator_of(content, str(path))
        critic, notes = choose_critic(found, str(path))
        notes = [*chosen.notes, *_places(chosen, critic), *notes]
        notes += not_used(found, chosen, critic)
        critic_path = None
        if critic is None and not any(f.role == "critic" for f in found):
            critic, critic_path = _critic_beside(path, notes)
        generator = clean(chosen.tensors)
        if _is_safetensors(probe):
            _order.check_alphabetical(generator, str(path), "generator")

        def infer(d_tensors: dict[str, Tensor] | None) -> InferredPair:
            return infer_pair(
                generator,
                d_tensors,
                str(path),
                generator_hints=NetworkHints(file=path.name),
                critic_hints=NetworkHints(file=critic_path.name if critic_path else path.name),
                latent=LatentHints(),
            )

        inferred = None
        if critic is not None:
            d_tensors = clean(critic.tensors)
            name = f"critic of {critic_path.name}" if critic_path else "critic"
            inferred = optional(name, lambda: infer(d_tensors), notes)
        else:
            notes.append("no critic found")
        if inferred is None:
            inferred = infer(None)
        elif critic_path is not None:
            files[critic_path.name] = sha256(critic_path)
            notes.append(f"critic taken from {critic_path.name} beside it")
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


def _critic_beside(path: pathlib.Path, notes: list[str]) -> tuple[Chosen | None, pathlib.Path | None]:
    """The critic in a file whose name fits the generator's, and that file; None twice, and a note, if there is none to use."""
    critics = critics_of(path)
    if critics.rivals:
        names = ", ".join(other.name for other in critics.rivals[:6])
        notes.append(
            f"several files may hold the critic ({names}), and none is taken; name one in a source card: source.yaml beside "
            f"them with regraft_card: 1, generator: {path.name}, critic: {critics.rivals[0].name}"
        )
    other = critics.file
    if other is None:
        return None, None
    chosen = optional(f"critic of {other.name}", lambda: critic_of(read_weights(other), str(other)), notes)
    return chosen, other if chosen is not None else None


PLUGIN = StateDict()
