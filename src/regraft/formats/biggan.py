"""Folders of ajbrock's BigGAN-PyTorch: bare state dicts ``G_ema.pth`` or ``G.pth``, and ``D.pth``.

A name may carry a suffix (``G_ema_best0.pth``), and the averaged generator may have been renamed to ``G.pth``, as MineGAN's
instructions have it.  Pointing at one file takes that file and its partners.  Optimiser and ``state_dict`` files are not read.
"""

import pathlib
import re

from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats import _biggan
from regraft.formats._choice import passing
from regraft.formats._pairs import critics_of
from regraft.formats._state_dicts import mentions, the_state_dict
from regraft.formats.base import Format, Network, Parsed, Probe, load_torch, optional_critic

GENERATOR = ("output_layer.0.gain", "blocks.0.0.bn1.gain.weight")
CRITIC = ("blocks.0.0.conv1.weight", "blocks.0.0.conv2.weight", "embed.weight", "linear.weight")
NAME = re.compile(r"(G_ema|G|D)(?:_(?!optim)(.+))?\.pth")


class BigGANFormat(Format):
    """State dicts that BigGAN-PyTorch saves."""

    name = "BigGAN-PyTorch"
    order = 40

    def matches(self, probe: Probe) -> bool:
        """Whether a folder's generator, or the file itself, has this code's names."""
        if probe.path.is_dir():
            file = _generator_file(probe.path)
            return file is not None and mentions(file, *GENERATOR)
        return probe.is_torch_file and (mentions(probe.path, *GENERATOR) or mentions(probe.path, *CRITIC))

    def read(self, probe: Probe) -> Parsed:
        """Read the generator and, if there is one, its critic."""
        path, critic_path = _pair(probe.path)
        content = load_torch(path)
        chosen = passing(content, _is_generator, str(path))
        reader = _biggan.BigGANReader(the_state_dict(content, str(path)) if chosen is None else chosen.tensors, str(path))
        deep = "blocks.0.0.conv4.weight" in reader
        generator, size, notes = (_biggan.read_deep_generator if deep else _biggan.read_generator)(reader)
        averaged = path.name.startswith("G_ema") or (chosen is not None and chosen.found.average)
        unsure = "" if averaged else "; the file does not say whether its weights are averaged"
        notes[:0] = [f"generator taken from {path.name}{unsure}", *(chosen.notes if chosen else ())]
        files = {path.name: sha256(path)}

        def read_critic() -> Network | None:
            d_path = critic_path or path
            d_content = content if critic_path is None else load_torch(critic_path)
            d_chosen = passing(d_content, _is_critic, str(d_path), "critic")
            if critic_path is None and d_chosen is None:
                return None
            tensors = the_state_dict(d_content, str(d_path)) if d_chosen is None else d_chosen.tensors
            d_reader = _biggan.BigGANReader(tensors, str(d_path))
            critic = (_biggan.read_deep_critic if deep else _biggan.read_critic)(d_reader, size)
            makes, takes = (network.description.config["channels"] for network in (generator, critic))
            if makes != takes:
                raise SourceError(f"{d_path}: takes images of {takes} channels, and the generator makes {makes}")
            files[d_path.name] = sha256(d_path)
            return critic

        critic = optional_critic(read_critic, notes)
        name = path.parent.resolve().name if NAME.fullmatch(path.name) else path.stem
        provenance = Provenance(name=name, format=self.name, files=files, assumptions=tuple(notes))
        return Parsed(generator, critic, provenance)


def _is_generator(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of this code's generators."""
    return tensors.keys() >= set(GENERATOR)


def _is_critic(tensors: dict[str, Tensor]) -> bool:
    """Whether tensors have the names of this code's critics."""
    return tensors.keys() >= {"blocks.0.0.conv1.weight", "linear.weight"} and not _is_generator(tensors)


def _generator_file(folder: pathlib.Path, suffix: str | None = None) -> pathlib.Path | None:
    """The generator that a folder means.

    Files without a suffix (the last save) come before others, and averaged weights before those that are not; with ``suffix``
    only files of that one count.
    """
    candidates = []
    for file in folder.iterdir():
        match = NAME.fullmatch(file.name)
        if match and match[1] != "D" and file.is_file() and (suffix is None or (match[2] or "") == suffix):
            candidates.append((match[2] or "", match[1] == "G", file))
    return min(candidates, default=("", False, None))[2]


def _pair(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Files of generator and critic that a path means."""
    folder = path if path.is_dir() else path.parent
    match = NAME.fullmatch(path.name)
    generator: pathlib.Path | None = path
    if path.is_dir():
        generator = _generator_file(path)
    elif not mentions(path, *GENERATOR):
        generator = _generator_file(folder, (match[2] or "") if match else None)
        if generator is None:
            raise SourceError(f"{path}: is a BigGAN critic, and there is no G_ema.pth or G.pth of the same suffix beside it")
        return generator, path
    if generator is None:
        raise SourceError(f"{path}: holds no G_ema.pth or G.pth")
    match = NAME.fullmatch(generator.name)
    critic = generator.with_name(f"D_{match[2]}.pth" if match and match[2] else "D.pth")
    return generator, critic if match and critic.is_file() else critics_of(generator).file


PLUGIN = BigGANFormat()
