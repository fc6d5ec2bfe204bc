"""Class-conditional batch normalisation in the two forms of public GANs, and the class codes that go with them.

Families with one shared class embedding map a code to each norm's gain and shift (:class:`LinearNorm`); families without one
keep a table per norm (:class:`TableNorm`), and their class code is the concatenation of all norms' gains and shifts.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from regraft.backbones import _spectral
from regraft.core.device import device_of
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import ClassCode, ClassHead, Critic
from regraft.core.randomness import global_seed

CriticT = TypeVar("CriticT", bound=Critic)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class LinearNorm(nn.Module):
    """Normalise, then scale by 1 + gain(code) and shift by bias(code)."""

    def __init__(self, channels: int, code_dim: int, spectral: _spectral.Dialect | None, eps: float, sn_eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.gain = _spectral.linear(code_dim, channels, bias=False, spectral=spectral, sn_eps=sn_eps)
        self.bias = _spectral.linear(code_dim, channels, bias=False, spectral=spectral, sn_eps=sn_eps)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, code_dim)."""
        scale, shift = 1 + self.gain(code), self.bias(code)
        return torch.addcmul(shift[:, :, None, None], self.norm(x), scale[:, :, None, None])


class TableNorm(nn.Module):
    """Normalise, then scale and shift by a row of a table: C gains, used as they are, then C shifts."""

    def __init__(self, channels: int, n_classes: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.codes = nn.Parameter(torch.cat([torch.ones(n_classes, channels), torch.zeros(n_classes, channels)], dim=1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, 2 C)."""
        scale, shift = code[:, : self.channels, None, None], code[:, self.channels :, None, None]
        return torch.addcmul(shift, self.norm(x), scale)


def look_up_rows(table: Tensor, y: Tensor) -> Tensor:
    """Rows of a table (classes, D): of indices (N,), or mixtures by weights (N, classes)."""
    return y.to(table) @ table if y.is_floating_point() else table[y]


def class_code(norms: Sequence[TableNorm], y: Tensor) -> ClassCode:
    """The class code of class indices (N,) or weights (N, classes): all norms' table rows, side by side."""
    return ClassCode(torch.cat([look_up_rows(norm.codes, y) for norm in norms], dim=1))


def split_code(norms: Sequence[TableNorm], code: ClassCode) -> list[Tensor]:
    """Cut a class code into one part per norm.

    Raises:
        ConfigError: if it is not as wide as the norms need.
    """
    widths = [2 * norm.channels for norm in norms]
    if code.vector.dim() != 2 or code.vector.shape[1] != sum(widths):
        raise ConfigError(f"this generator's class codes are (N, {sum(widths)}), got {tuple(code.vector.shape)}")
    return list(torch.split(code.vector, widths, dim=1))


def tile_norms(tensors: dict[str, Tensor], n: int, norms: tuple[str, ...]) -> dict[str, Tensor]:
    """Tensors whose plain batch norms are turned into :class:`TableNorm` with the same row for each of ``n`` classes.

    Args:
        tensors: of a network with plain norms.
        n: classes.
        norms: how the last part of a norm's name reads.
    """
    made = {}
    for name, value in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if stem.rpartition(".")[2] not in norms:
            made[name] = value.clone()
        elif leaf not in ("weight", "bias"):
            made[f"{stem}.norm.{leaf}"] = value.clone()
        elif leaf == "weight":
            made[f"{stem}.codes"] = torch.cat([value, tensors[f"{stem}.bias"]]).expand(n, -1).clone()
    return made


@torch.no_grad()
def mix_class_axis(make: Callable[[int], ModuleT], network: nn.Module, weights: Tensor) -> ModuleT:
    """A network that differs from another in its classes only.

    Args:
        make: builds it for a number of classes.
        network: whose tensors are copied; those with an axis of classes are mixed along it.
        weights: (new, old), how new classes are made of old ones.
    """
    with torch.device("meta"):
        one_more = make(weights.shape[1] + 1).state_dict()
    made, tensors = make(len(weights)), {}
    for name, given in network.state_dict().items():
        sides = zip(given.shape, one_more[name].shape, strict=True)
        axis = next((i for i, (a, b) in enumerate(sides) if a != b), None)
        tensors[name] = given.clone()
        if axis is not None:
            tensors[name] = torch.tensordot(weights.to(given), given, ([1], [axis])).movedim(0, axis)
    made.load_state_dict(tensors, strict=True)
    return made.train(network.training)


def choose_head(present: str, wanted: ClassHead) -> Literal["auxiliary", "projection"]:
    """Which class head a critic gets: the one asked for, else the kind that is there, else a classifier."""
    if wanted == "auto":
        return "projection" if present == "projection" else "auxiliary"
    return wanted


def check_head(there_is: ClassHead, wanted: ClassHead) -> None:
    """Refuse a class head that a family does not have.

    Raises:
        MissingCapability: naming the one it has.
    """
    if wanted not in ("auto", there_is):
        raise MissingCapability(f"critics of this family have no {wanted} head for classes but {there_is}: class_head=auto")


def replace_head(make: Callable[[], CriticT], critic: Critic, head: str, seed: int) -> CriticT:
    """A critic like another but for its class head, whose weights are drawn from a seed.

    Args:
        make: builds it.
        critic: what it takes all other tensors from.
        head: what names of the head's tensors begin with.
        seed: of the head.
    """
    with global_seed(seed):
        made = make()
    drawn = made.state_dict()
    kept = {k: v.clone() for k, v in critic.state_dict().items() if k in drawn and not k.startswith(head)}
    made.load_state_dict(kept | {k: v for k, v in drawn.items() if k.startswith(head)}, strict=True)
    for name, module in made.named_modules():
        if isinstance(module, _spectral.Spectral) and f"{name}.".startswith(head):
            # Evaluation with stored vectors needs them to be those of the weights from the start.
            for _ in range(15):
                module.train().after_step()
    return made.to(device_of(critic)).train(critic.training)
