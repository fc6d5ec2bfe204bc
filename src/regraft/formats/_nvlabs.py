"""What the NVlabs formats share: a pickled module as settings and named tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.config import unknown_name
from regraft.core.errors import SourceError
from regraft.files.inert import shown
from regraft.files.nvlabs_pickles import Archive, Record, TensorRef
from regraft.formats.base import Probe

LICENCE = "the file names no licence; networks that NVIDIA published are for non-commercial use only"
NEAR_START = 1 << 18
MAX_MODULES = 2000
MAX_LEVELS = 8
MAX_TENSORS = 20_000
MAX_ITEMS = 500
MAX_STRING = 80


class PickledNetwork:
    """A pickled network: its modules, its tensors that are still in the file, and the arguments of its constructor.

    Attributes:
        where: names the network in errors.
        records: its modules by path.
        refs: its tensors by name, not read yet.
        kwargs: arguments of its constructor.
        flat: whether synthesis settings sit among them (StyleGAN3's repository), not in a group of their own.
        half: whether any block ran in half precision.
        notes: what had to be assumed.
    """

    def __init__(self, archive: Archive, record: Record, name: str, positional: Sequence[str]) -> None:
        self.archive, self.name, self.where = archive, name, name
        self.records: dict[str, Record] = {}
        self.refs: dict[str, Any] = {}
        self._collect(record, "", 0)
        by_name, by_place = record.state.get("_init_kwargs"), record.state.get("_init_args") or ()
        if not isinstance(by_name, dict) or not isinstance(by_place, tuple) or len(by_place) > len(positional):
            raise SourceError(f"{name}: its constructor's arguments are not recorded")
        self.kwargs: dict[str, Any] = {**dict(zip(positional, by_place, strict=False)), **by_name}
        grouped = "synthesis_kwargs" in self.kwargs
        ungrouped = not set(self.kwargs) <= {*positional, "mapping_kwargs"}
        first_layer = self.records.get("mapping.fc0")
        self.flat = not grouped and (ungrouped or (first_layer is not None and "in_features" in first_layer.state))
        self.half = any(module.state.get("use_fp16") for module in self.records.values())
        self.notes: list[str] = []

    def _collect(self, record: object, path: str, level: int) -> None:
        """Gather a module, its tensors and its sub-modules."""
        if not isinstance(record, Record):
            raise SourceError(f"{self.name}.{path} is no module of the published code but a {shown(record)}")
        if len(self.records) >= MAX_MODULES or level > MAX_LEVELS:
            raise SourceError(f"{self.name} has more than {MAX_MODULES} modules or {MAX_LEVELS} levels of them")
        self.records[path] = record
        prefix = f"{path}." if path else ""
        temporary = record.state.get("_non_persistent_buffers_set") or set()
        if not isinstance(temporary, set):
            raise SourceError(f"{self.name}.{path}: its buffers' names are no set")
        for group in ("_parameters", "_buffers"):
            for name, ref in _items(record, group):
                if ref is not None and not (group == "_buffers" and name in temporary):
                    self.refs[prefix + name] = ref
        if len(self.refs) > MAX_TENSORS:
            raise SourceError(f"{self.name} has more than {MAX_TENSORS} tensors")
        for name, child in _items(record, "_modules"):
            if child is not None:
                self._collect(child, prefix + name, level + 1)

    def has(self, name: str) -> bool:
        """Whether a tensor of that name is there."""
        return name in self.refs

    def only(self, *known: Sequence[str]) -> None:
        """Refuse arguments that no release of the code had, because they may change what the network computes.

        Raises:
            SourceError: naming the first one.
        """
        self._check(self.kwargs, [name for names in known for name in names], self.where)

    def group(self, name: str, known: Sequence[str]) -> dict[str, Any]:
        """A group of arguments, such as ``mapping_kwargs``; empty if it is left out.

        Raises:
            SourceError: if one is not among the ``known``, or it is no mapping.
        """
        value = self.kwargs.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise SourceError(f"{self.where}: {name} is a {type(value).__name__}, must be a mapping")
        self._check(value, known, f"{self.where}: {name}")
        return {key: self.plain(item) for key, item in value.items()}

    def _check(self, options: dict[str, Any], known: Sequence[str], where: str) -> None:
        """Refuse unknown arguments."""
        for key in options:
            if key not in known:
                problem = unknown_name("setting", str(key)[:60], list(known))
                raise SourceError(f"{where}: {problem}; networks of forks with changed code are not read")

    def plain(self, value: Any, level: int = 0) -> Any:
        """A setting as plain data that is small enough to be shown: nested data may be endless when written out.

        Raises:
            SourceError: if it is larger, or no plain data.
        """
        value = self.archive.numbers(value)
        if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= MAX_STRING):
            return value
        if isinstance(value, dict) and len(value) <= MAX_ITEMS and level < 2:
            return {str(key)[:MAX_STRING]: self.plain(item, level + 1) for key, item in value.items()}
        if isinstance(value, list | tuple) and len(value) <= 64 and all(isinstance(v, int | float) for v in value):
            return list(value)
        raise SourceError(
            f"{self.where}: a setting is a {type(value).__name__}, which is no number, short text, list or mapping"
        )

    def integer(self, name: str) -> int:
        """An argument that is a whole number from 0 to 2^24.

        Raises:
            SourceError: if it is none.
        """
        value = self.plain(self.kwargs.get(name))
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value < 1 << 24:
            shown = value if isinstance(value, int | float | str) and len(str(value)) < 20 else type(value).__name__
            raise SourceError(f"{self.where}: {name} is {shown}, must be a whole number")
        return value

    def effective(self, path: str, attribute: str, options: dict[str, Any], default: Any) -> Any:
        """A setting: the attribute of the layer at ``path``, else the one of ``options``, else the default, which is noted."""
        record = self.records.get(path)
        if record is not None and attribute in record.state:
            return self.plain(record.state[attribute])
        if attribute not in options:
            self.notes.append(f"{self.name}: {attribute} assumed to be {default}, its code's default")
        return self.plain(options.get(attribute, default))

    def tensors(self, drop: str | None = None) -> dict[str, Tensor]:
        """Read all tensors; those named ``drop`` must be StyleGAN2's resampling filter and are left out.

        Raises:
            SourceError: if one cannot be read, or a filter is another one.
        """
        tensors = {}
        for name, ref in self.refs.items():
            where = f"{self.where}: {name}"
            if drop is not None and name.rpartition(".")[2] == drop:
                if not isinstance(ref, TensorRef) or ref.shape != (4, 4):
                    raise SourceError(f"{where}: must be the 4x4 filter of [1, 3, 3, 1]")
                check_filter(self.archive.tensor(ref, where), resampling_filter(), where)
            else:
                tensors[name] = self.archive.tensor(ref, where)
        return tensors


def _items(record: Record, group: str) -> list[tuple[str, Any]]:
    """Names and values of a module's parameters, buffers or sub-modules."""
    value = record.state.get(group)
    if (
        not isinstance(value, dict)
        or len(value) > MAX_ITEMS
        or not all(isinstance(key, str) and len(key) < 100 for key in value)
    ):
        raise SourceError(f"a module {record.class_name[:60]} without {group}, or with more than {MAX_ITEMS} of them")
    return list(value.items())


def resolutions(size: int, where: str) -> list[int]:
    """4, 8, ... up to ``size``.

    Raises:
        SourceError: if it is no power of two from 8 to 4096.
    """
    if not 8 <= size <= 4096 or size & (size - 1):
        raise SourceError(f"{where}: img_resolution is {size}, must be a power of two from 8 to 4096")
    return [4 << k for k in range(size.bit_length() - 2)]


def output_channels(tensors: dict[str, Tensor], name: str, where: str) -> int:
    """Output channels of a convolution.

    Raises:
        SourceError: if it is not there.
    """
    if name not in tensors or tensors[name].dim() != 4:
        raise SourceError(f"{where}: the tensors do not fit the network: missing: {name}")
    return int(tensors[name].shape[0])


def resampling_filter() -> Tensor:
    """StyleGAN2's resampling filter, (4, 4)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def check_filter(value: Tensor | None, expected: Tensor, where: str) -> None:
    """Refuse a constant that is not what it must be.

    Raises:
        SourceError: if shapes or numbers differ.
    """
    if value is None or value.shape != expected.shape or not torch.allclose(value, expected, atol=1e-4 * float(expected.max())):
        raise SourceError(f"{where}: is not the filter that its settings give; networks with filters of their own are not read")


def begins_as_pickle(probe: Probe, *markers: bytes) -> bool:
    """Whether a file is a plain pickle of protocol 2 to 5 with one of ``markers`` near its start."""
    if len(probe.head) < 3 or probe.head[0] != 0x80 or not 2 <= probe.head[1] <= 5 or probe.is_torch_file:
        return False
    try:
        with probe.path.open("rb") as file:
            start = file.read(NEAR_START)
    except OSError:
        return False
    return any(marker in start for marker in markers)
