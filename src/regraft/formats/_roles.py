"""What the names in files say: which network a key or prefix means, whether it is an average, and which prefixes only wrap.

People name their networks ``netG``, ``generator``, ``G_ema``, ``gen_A2B``, ``discriminator_state_dict``: a name is split into
words, and the words are looked up.
"""

import re
from collections.abc import Iterable
from typing import Literal

from torch import Tensor

from regraft.formats._reparametrized import with_old_names

Role = Literal["generator", "decoder", "critic", "other"]
"""Of a network: a decoder counts as a generator where there is no other; ``other`` is what a GAN does not need."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS: dict[Role, frozenset[str]] = {
    "generator": _set("generator generators gen gens g gs netg gnet modelg"),
    "decoder": _set("decoder decoders dec"),
    "critic": _set("discriminator discriminators discrim discr disc discs dis critic critics d netd dnet modeld adversary"),
    "other": _set(
        "encoder encoders enc e nete netq q vgg inception lpips perceptual fid arcface clip classifier loss losses criterion "
        "metric metrics optimizer optimiser optim opt optimizers scheduler schedulers sched scaler mapper codec"
    ),
}
AVERAGE = _set("ema avg average averaged shadow swa running smoothed smooth polyak mavg gs")
LATEST = _set("online current raw live")
"""Words for the weights that an average is taken of; inside an average's file they mark the set that is no average."""
WRAPPERS = _set("module modules orig mod model models net nets network networks nn backbone core wrapped ddp gan")
FILLERS = WRAPPERS | _set("state dict params parameters weights sd checkpoint ckpt")
EMBEDDING = _set("emb embed embedding embeddings embeds label labels lookup")
BOOKKEEPING = _set("n_averaged initted step decay num_updates epoch iteration global_step")
"""Numbers that wrappers keep beside weights."""


def words(name: str) -> list[str]:
    """Words of a name, in lower case: ``netG_A2B`` is net, g, a, 2, b."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def role(name: str) -> Role | None:
    """Which network a key or one part of a prefix means; None if it does not say."""
    if re.fullmatch(r"[A-Za-z]\d+", name):  # d1, g2, e3 are layers
        return None
    found = words(name)
    for which in ("other", "critic", "generator", "decoder"):
        if WORDS[which].intersection(found):
            return which
    return None


def is_average(names: Iterable[str]) -> bool:
    """Whether keys and prefixes, from the outermost on, say that weights are an average; the innermost that speaks decides."""
    average = False
    for name in names:
        found = words(name)
        average = bool(AVERAGE.intersection(found)) or (average and not LATEST.intersection(found))
    return average


def is_wrapper(name: str) -> bool:
    """Whether a prefix says nothing, or nothing but which network this is."""
    known = FILLERS | AVERAGE | LATEST | WORDS["generator"] | WORDS["decoder"] | WORDS["critic"]
    found = words(name)
    return bool(found) and (known.issuperset(found) or role(name) in ("generator", "critic", "decoder"))


def is_embedding(name: str) -> bool:
    """Whether a layer's name says that it is a table with one row per class."""
    return bool(EMBEDDING.intersection(words(name)))


def conditional(where: str, name: str, shape: tuple[int, ...] | None = None) -> str:
    """Say that a network takes classes through a table that lies beside its layers."""
    rows = f" of {shape[0]} classes" if shape else ""
    return (
        f"{where}: {name} is an embedding{rows}, a table and no linear layer: this network takes classes, and the file does "
        "not say how they are joined with the latent (side by side, by product, which first). regraft cannot build it from the "
        "file; build it in Python and hand it over as regraft.GAN(generator=..., critic=..., latent=...)"
    )


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefixes that wrappers put before every name (``module.``, ``_orig_mod.``, ``generator.``, ...), in any order.

    A prefix that one name lacks stays, and so does one that says what a layer is.
    """
    tensors = with_old_names(tensors)
    compiled = {".".join(part for part in name.split(".") if part != "_orig_mod"): value for name, value in tensors.items()}
    tensors = compiled if len(compiled) == len(tensors) else tensors
    while tensors:
        first = next(iter(tensors)).partition(".")[0]
        if not is_wrapper(first) or not all(name.startswith(f"{first}.") for name in tensors):
            return tensors
        tensors = {name[len(first) + 1 :]: value for name, value in tensors.items()}
    return tensors


def branches(names: Iterable[str]) -> list[str]:
    """Prefixes at which names first differ, with their dots; layers that are no branches are left out."""
    split = [name.split(".") for name in names]
    depth = 0
    while split and all(len(parts) > depth + 2 for parts in split) and len({parts[depth] for parts in split}) == 1:
        depth += 1
    return list(dict.fromkeys(".".join(parts[: depth + 1]) + "." for parts in split if len(parts) > depth + 2))
