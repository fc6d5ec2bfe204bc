"""Class-conditional batch normalisation in the two forms of public GANs, and the class codes that go with them.

Families with one shared class embedding map a code to each norm's gain and shift (:class:`LinearNorm`); families without one
keep a table per norm (:class:`TableNorm`), and their class code is the concatenation of all norms' gains and shifts.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from regraft.backbones import _spectral
from regraft.core.device import device_of
from regraft.core.errors import ConfigError, MissingCapability
from regraft.core.networks import ClassCode, ClassHead, Critic, Generator
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
    """Normalise, then scale and shift by a row of a table.

    Attributes:
        codes: the table, (n_classes, 2 C): C gains, used as they are, then C shifts.
    """

    def __init__(self, channels: int, n_classes: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.codes = nn.Parameter(torch.cat([torch.ones(n_classes, channels), torch.zeros(n_classes, channels)], dim=1))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (N, C, H, W) under codes (N, 2 C)."""
        scale, shift = code[:, : self.channels, None, None], code[:, self.channels :, None, None]
        return torch.addcmul(shift, self.norm(x), scale)


class CodedNorm(Protocol):
    """A norm whose gains and shifts are part of the class code.

    Attributes:
        channels: number of channels C.
        codes: gains and shifts of each class, (n_classes, 2 C).
    """

    channels: int

    @property
    def codes(self) -> Tensor:
        """See the class."""


def look_up_rows(table: Tensor, y: Tensor) -> Tensor:
    """Look up the rows (N, D) of indices (N,) in a table (classes, D), or mix its rows with weights (N, classes)."""
    return y.to(table) @ table if y.is_floating_point() else table[y]


def class_code(norms: Sequence[CodedNorm], y: Tensor) -> ClassCode:
    """Return the class code of class indices (N,) or weights (N, classes): the rows of all norms' tables, side by side."""
    return ClassCode(torch.cat([look_up_rows(norm.codes, y) for norm in norms], dim=1))


def split_code(norms: Sequence[CodedNorm], code: ClassCode) -> list[Tensor]:
    """Cut a class code into one part (N, 2 C) per norm.

    Raises:
        ConfigError: if the code is not as wide as the norms need.
    """
    widths = [2 * norm.channels for norm in norms]
    check_code(code, sum(widths))
    return list(torch.split(code.vector, widths, dim=1))


def require_code(generator: Generator, y: Tensor | ClassCode | None) -> ClassCode:
    """Return the class code that a conditional generator was asked for.

    Raises:
        MissingCapability: if no class was given.
    """
    if y is None:
        raise MissingCapability("this generator is conditional: give class indices or a class code as y")
    return y if isinstance(y, ClassCode) else generator.embed(y)


def check_code(code: ClassCode, width: int) -> None:
    """Check that a class code is (N, width).

    Raises:
        ConfigError: if it has another shape.
    """
    if code.vector.dim() != 2 or code.vector.shape[1] != width:
        raise ConfigError(f"this generator's class codes are (N, {width}), got {tuple(code.vector.shape)}")


def class_vector(generator: Generator, y: Tensor | ClassCode | None, width: int) -> Tensor:
    """Return the class vector (N, width) that a conditional generator was asked for.

    Raises:
        MissingCapability: if no class was given.
        ConfigError: if a class code has another width.
    """
    code = require_code(generator, y)
    check_code(code, width)
    return code.vector


def tile_norms(tensors: dict[str, Tensor], n: int, norms: tuple[str, ...]) -> dict[str, Tensor]:
    """Turn the tensors of plain batch norms into those of a :class:`TableNorm` with the same row for each class.

    Args:
        tensors: all tensors of a network with plain norms.
        n: number of classes.
        norms: names of the norms in the modules that hold them, the last part of their full names.
    """
    tiled = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        if module.rpartition(".")[2] not in norms:
            tiled[name] = value.clone()
        elif leaf not in ("weight", "bias"):
            tiled[f"{module}.norm.{leaf}"] = value.clone()
        elif leaf == "weight":
            tiled[f"{module}.codes"] = torch.cat([value, tensors[f"{module}.bias"]]).expand(n, -1).clone()
    return tiled


@torch.no_grad()
def mix_class_axis(make: Callable[[int], ModuleT], network: nn.Module, weights: Tensor) -> ModuleT:
    """Make a network that differs from another in its classes only: every tensor with an axis of classes is mixed along it.

    Args:
        make: builds the network for a number of classes.
        network: the network whose tensors are copied or mixed.
        weights: (new, old); row k says how the old classes make up the new class k.
    """
    # The axis of classes is the one that is longer in a network with one class more.
    with torch.device("meta"):
        one_more = make(weights.shape[1] + 1).state_dict()
    mixed, tensors = make(len(weights)), {}
    for name, value in network.state_dict().items():
        sides = zip(value.shape, one_more[name].shape, strict=True)
        axis = next((i for i, (a, b) in enumerate(sides) if a != b), None)
        tensors[name] = value.clone()
        if axis is not None:
            tensors[name] = torch.tensordot(weights.to(value), value, ([1], [axis])).movedim(0, axis)
    mixed.load_state_dict(tensors, strict=True)
    return mixed.train(network.training)


def choose_head(present: str, requested: ClassHead) -> Literal["auxiliary", "projection"]:
    """Choose a critic's new class head: the requested kind; if that is ``auto``, the kind present, or else a classifier."""
    if requested == "auto":
        return "projection" if present == "projection" else "auxiliary"
    return requested


def check_head(available: ClassHead, requested: ClassHead) -> None:
    """Refuse a class head that a family does not have.

    Raises:
        MissingCapability: naming the one it has.
    """
    if requested not in ("auto", available):
        raise MissingCapability(f"critics of this family have no {requested} head for classes but {available}: class_head=auto")


def replace_head(make: Callable[[], CriticT], critic: Critic, prefix: str, seed: int) -> CriticT:
    """Make a critic like another but for its class head, whose weights are drawn anew.

    Args:
        make: builds the new critic.
        critic: the critic from which all other tensors are copied.
        prefix: beginning of the names of the head's tensors.
        seed: of the head's weights.
    """
    with global_seed(seed):
        new = make()
    drawn = new.state_dict()
    copied = {k: v.clone() for k, v in critic.state_dict().items() if k in drawn and not k.startswith(prefix)}
    new.load_state_dict(copied | {k: v for k, v in drawn.items() if k.startswith(prefix)}, strict=True)
    for name, module in new.named_modules():
        if isinstance(module, _spectral.Spectral) and f"{name}.".startswith(prefix):
            # Evaluation with stored vectors needs them to be those of the weights from the start.
            module.iterate(_spectral.SETTLING_STEPS)
    return new.to(device_of(critic)).train(critic.training)
