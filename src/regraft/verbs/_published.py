"""Read what the authors of Mind2Mind published, MindGAN checkpoints and folders of pickled codes, without running it.

Source: the formats of the authors' repository; nothing of its code.
"""

import contextlib
import json
import pathlib
from typing import Any

import torch
from torch import Tensor

from regraft.composites.decoded import DecodedGenerator, Mind, MindConfig
from regraft.core.errors import DataError, SourceError
from regraft.core.gan import GAN, Provenance
from regraft.files.digests import sha256
from regraft.files.nvlabs_pickles import open_archive
from regraft.files.weights import load_torch

SETTINGS = "parameters.json"
MAX_WIDTH = 1 << 16


def is_mindgan(path: pathlib.Path) -> bool:
    """Return whether a path is a checkpoint of the authors' trainer: ``model_<epoch>.pth`` beside ``parameters.json``."""
    if not path.is_file() or path.suffix != ".pth" or not (path.parent / SETTINGS).is_file():
        return False
    with contextlib.suppress(SourceError):
        content = load_torch(path, {})
        return isinstance(content, dict) and all(isinstance(content.get(part), dict) for part in ("Generator", "Critic"))
    return False


def open_mindgan(path: pathlib.Path, source: GAN) -> GAN:
    """Open a published MindGAN, followed by the decoder of the ALAE that it was trained for.

    Args:
        path: the checkpoint, with ``parameters.json`` beside it.
        source: the GAN whose autoencoder made the codes.

    Raises:
        SourceError: if the files contradict each other or do not fit the source.
    """
    autoencoder = source.require("autoencoder", for_=f"the MindGAN {path.name}")
    mind = _read_mind(path, int(torch.Size(autoencoder.code_shape).numel()), source.provenance.name)
    generator = DecodedGenerator(mind.requires_grad_(False), autoencoder).eval()
    with torch.no_grad():
        mind.mean.copy_(mind(generator.latent.at(0, range(4096))).mean(0))
    origin = source.provenance
    note = "the target's mean code is not in the file; truncation pulls towards the mean of 4096 codes of the MindGAN"
    provenance = Provenance(
        name=path.stem,
        format="mindgan",
        files={p.name: sha256(p) for p in (path, path.parent / SETTINGS)},
        licence=origin.licence,
        assumptions=(*origin.assumptions, note),
        lineage=origin.lineage,
    )
    return GAN(
        generator,
        source.critic,
        autoencoder=autoencoder,
        objective=source.objective,
        recipe=source.recipe,
        provenance=provenance,
    )


def _read_mind(path: pathlib.Path, code_dim: int, source_name: str) -> Mind:
    """Read the generator of codes from a checkpoint; its mean code, shift and scale keep their initial values.

    Args:
        path: the checkpoint, with its settings beside it.
        code_dim: numbers in a code of the autoencoder.
        source_name: whose autoencoder it is, for errors.
    """
    state = load_torch(path, {})["Generator"]  # a NumPy array of times lies beside
    settings = _settings(path.parent / SETTINGS)
    weights = [state.get(f"model.{2 * k}.weight") for k in range((len(state) + 1) // 2)]
    expected_names = {f"model.{2 * k}.{leaf}" for k in range(len(weights)) for leaf in ("weight", "bias")}
    are_tensors = all(isinstance(v, Tensor) for v in state.values()) and all(w is not None and w.dim() == 2 for w in weights)
    if not weights or set(state) != expected_names or not are_tensors:
        names = ", ".join(map(str, list(state)[:4]))
        raise SourceError(f"{path}: Generator holds {names}, not linear layers model.0, model.2, ...")
    widths = [weights[0].shape[-1], *(len(w) for w in weights)]
    latent_dim, hidden = settings["z_dim"], list(settings["hidden_generator_c"])
    if (latent_dim, hidden) != (widths[0], widths[1:-1]) or max(widths) > MAX_WIDTH:
        raise SourceError(f"{path}: its layers are {widths}, {SETTINGS} says {latent_dim} and {hidden}")
    if widths[-1] != code_dim:
        raise SourceError(f"{path}: makes codes of {widths[-1]} numbers, and {source_name} decodes {code_dim}")
    mind = Mind(MindConfig(code_dim=code_dim, widths=tuple(widths[1:-1]), latent_dim=widths[0]))
    tensors = {f"layers.{int(k.split('.')[1]) // 2}.{k.split('.')[2]}": v.float() for k, v in state.items()}
    missing, surplus = [], []
    try:
        missing, surplus = mind.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    if surplus or set(missing) != {"mean", "shift", "scale"}:
        raise SourceError(f"{path}: {(surplus or missing)[0]} does not fit")
    return mind


def _settings(path: pathlib.Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if type(settings["z_dim"]) is not int or not all(type(w) is int for w in settings["hidden_generator_c"]):
            raise TypeError("z_dim and hidden_generator_c must be numbers")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{path}: not the settings of a MindGAN ({type(error).__name__}: {error})") from None
    return dict(settings)


def is_code_folder(path: pathlib.Path) -> bool:
    """Return whether a folder holds pickled codes only: files without a suffix that begin as pickles do."""
    if not path.is_dir():
        return False
    files = [p for p in path.iterdir() if not p.name.startswith(".")]
    if not files or any(not p.is_file() or p.suffix in (".png", ".jpg", ".json") for p in files):
        return False
    with min(files).open("rb") as file:
        return file.read(1) in (b"\x80", b"c")


def read_code_folder(folder: pathlib.Path) -> tuple[tuple[str, ...], Tensor]:
    """Read a folder of one pickled NumPy array per image; return names, sorted, and codes (N, D).

    Raises:
        DataError: naming a file that holds something else, or codes of different sizes.
    """
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    codes: list[Tensor] = []
    for name in names:
        try:
            with open_archive(folder / name) as archive:
                code = archive.tensor(archive.root, name).float().flatten()
        except SourceError as error:
            raise DataError(f"{error}; a folder of codes holds one pickled array per image") from None
        if not len(code) or not torch.isfinite(code).all() or (codes and len(code) != len(codes[0])):
            expected = f", the first has {len(codes[0])}" if codes else ""
            raise DataError(f"{folder / name}: {len(code)} numbers{expected}; codes must be finite and alike in size")
        codes.append(code)
    return tuple(names), torch.stack(codes)
