"""What every section of the GPU check is given, and what several of them need."""

import contextlib
import dataclasses
import json
import pathlib
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from regraft.backbones.base import Backbone
from regraft.core import discover
from regraft.core.build import build_fresh
from regraft.core.gan import GAN, Provenance
from regraft.core.networks import Critic, Description, Generator
from regraft.data.images import Images


class OutOfTime(Exception):
    """The section's time is over."""


@dataclasses.dataclass
class Job:
    """One section at work.

    Attributes:
        device: where to compute.
        tiny: smallest sizes and few steps, to see on a CPU that everything runs.
        ends: when the section has to stop, on the clock of ``time.monotonic``.
        rows: file that each row is appended to, as JSON lines.
        folder: where pictures and weights may be written.
        reference, data, peer: folders beside the project, or None.
    """

    device: torch.device
    tiny: bool
    ends: float
    rows: pathlib.Path
    folder: pathlib.Path
    reference: pathlib.Path | None = None
    data: pathlib.Path | None = None
    peer: pathlib.Path | None = None

    def report(self, what: str, **values: Any) -> None:
        """Write one row at once, so that it is there whatever happens next."""
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **values}) + "\n")

    @property
    def left(self) -> float:
        """Seconds until the section has to stop."""
        return self.ends - time.monotonic()

    def attempt(self, what: str, measure: Callable[[], dict[str, Any]], needs: float = 0.0) -> dict[str, Any] | None:
        """Measure one thing and report it; a fault is a row too, and stops nothing else.

        Args:
            what: name of the row.
            measure: returns the row's values.
            needs: seconds that it takes at least; it is left out where fewer are left.
        """
        if self.left < max(needs, 0.5):
            self.report(what, result="not run: out of time")
            return None
        began = time.monotonic()
        try:
            values = {"result": "ok"} | measure()
        except Exception as error:  # noqa: BLE001 - whatever breaks is a row of the table
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            values = {"result": "**failed**", "why": f"{said} ({pathlib.Path(place.filename).name}:{place.lineno})"}
        finally:
            self.free()
        self.report(what, **values, seconds=round(time.monotonic() - began, 2))
        return values

    def free(self) -> None:
        """Give back the memory of what was measured before."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Wait until the device has done all that it was asked to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def peak(self) -> float | None:
        """Most memory of the GPU that was in use since :meth:`free`, in GiB; None on a CPU."""
        return round(torch.cuda.max_memory_allocated() / 2**30, 3) if self.device.type == "cuda" else None


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 in float32: no TF32 in matrix products and convolutions."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def pictures(n: int, size: int, channels: int = 3, seed: int = 0) -> Images:
    """Make coloured discs on coloured grounds: enough structure to train on, from a seed.

    Returns:
        ``n`` images of ``size`` x ``size`` pixels.
    """
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    centre = torch.rand(n, 2, 1, 1, generator=rng) - 0.5
    radius = 0.2 + 0.4 * torch.rand(n, 1, 1, generator=rng)
    inside = (((x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2).sqrt() < radius)[:, None]
    ground, colour = (torch.randint(0, 256, (n, channels, 1, 1), generator=rng) for _ in range(2))
    return Images(torch.where(inside, colour, ground).to(torch.uint8).contiguous())


def fresh_gan(family: str, size: int, channels: int = 3, n_classes: int = 0, seed: int = 0, **settings: Any) -> GAN:
    """Make a GAN of a family with random weights."""
    backbone = discover.plugin("backbones", family, Backbone)
    networks: list[Any] = []
    for role, config in zip(
        ("generator", "critic"), backbone.default_configs(size, channels, n_classes, **settings), strict=True
    ):
        description = Description(family, role, config.model_dump(mode="json"))  # type: ignore[arg-type]
        networks.append(build_fresh(description, seed).requires_grad_(False).eval())
    generator, critic = networks
    assert isinstance(generator, Generator)
    assert isinstance(critic, Critic)
    generator.measure_mean_style()
    objective, recipe = backbone.training(size)
    return GAN(generator, critic, objective=objective, recipe=recipe, provenance=Provenance(name=f"{family}-{size}"))


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest absolute difference of two tensors; not a number where one holds none."""
    return float((a.float().cpu() - b.float().cpu()).abs().max())
