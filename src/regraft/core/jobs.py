"""Settings of the verbs, from which command-line options, a run's config.yaml and the API's keywords are made."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from regraft.core.config import OBJECTIVES, Config, unknown_name
from regraft.core.errors import DataError

Device = Literal["auto", "cpu", "cuda", "mps"]
SourceName = str


class AdaptJob(Config):
    """Settings of one adaptation."""

    images: Annotated[
        str,
        Field(description="Target images: a folder, or a file of many (.zip, .npz, .tar, ...)."),
    ]
    sources: Annotated[
        tuple[SourceName, ...],
        Field(description="Pretrained GANs: files, folders, source cards, runs or names of bundled ones."),
    ] = ()
    method: Annotated[str, Field(description="Adaptation method; auto chooses one and prints why.")] = "auto"
    out: Annotated[str | None, Field(description="Run folder, never overwritten. Default: runs/<name of images>.")] = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="Seed of every random draw.")] = 0
    steps: Annotated[int | None, Field(ge=0, description="Training steps. Default: the method's own number.")] = None
    more: Annotated[
        int,
        Field(
            ge=0,
            description="Steps to add to the last phase. With --resume RUN --out NEW: lengthen a finished run in a new folder.",
        ),
    ] = 0
    batch: Annotated[
        int | Literal["auto"] | None,
        Field(description="Images per step. auto: the usual number, computed in as many parts as it takes to fit in memory."),
    ] = None
    accumulate: Annotated[
        int, Field(ge=1, le=4096, description="Parts that each batch is computed in; more parts need less memory.")
    ] = 1
    device: Annotated[Device, Field(description="Where to compute. auto: cuda, else mps, else cpu.")] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="Precision of forward and backward passes; penalties stay in float32."),
    ] = "float32"
    take: Annotated[int | None, Field(ge=1, description="Use only the first N images, in the order of their names.")] = None
    split: Annotated[
        str | None,
        Field(description="Split to use where images lie in folders train, val and test, or all. Default: train."),
    ] = None
    only_class: Annotated[str | None, Field(description="Use only the images of one class folder.")] = None
    labels: Annotated[
        bool | None,
        Field(
            description="Learn class folders as classes, also those that look like parts of one set (00000, 01000). Default: "
            "yes, if method and source support it and every class has at least 10 images."
        ),
    ] = None
    fit: Annotated[Literal["crop", "pad", "stretch"], Field(description="How to fit images of another aspect ratio.")] = "crop"
    flip: Annotated[
        Literal["auto", "on", "off"],
        Field(description="Mirror training images at random. auto: unless mirrored images look foreign to the set."),
    ] = "auto"
    on_bad: Annotated[Literal["error", "skip"], Field(description="On an unreadable image, stop with an error or skip it.")] = (
        "error"
    )
    held_out: Annotated[
        int | None,
        Field(
            ge=0,
            description="Images to measure on, not to train on. Default: a fifth of fewer than 50, a tenth of more, up to 500.",
        ),
    ] = None
    objective: Annotated[
        str | dict[str, Any] | None,
        Field(
            description=f"Loss to train with: {', '.join(OBJECTIVES)}; details by --set objective.*. Default: the source's own."
        ),
    ] = None
    recipe: Annotated[dict[str, Any], Field(description="Training settings that replace the source's own.")] = {}
    settings: Annotated[dict[str, Any], Field(description="The method's settings.")] = {}
    extractor: Annotated[
        str,
        Field(
            description="Features to measure with: random_conv, critic, inception, mobilenet_v1:FILE, classifier:FILE or "
            "network:CARD."
        ),
    ] = "random_conv"
    evaluate_every: Annotated[
        int | None,
        Field(
            ge=0, description="Steps between held-out measurements; 0 for none. Default: a twentieth of all steps, 50 to 500."
        ),
    ] = None
    patience: Annotated[
        int,
        Field(ge=0, description="End the run early after this many clearly worse held-out measurements in a row; 0 for never."),
    ] = 8
    keep: Annotated[
        Literal["best", "last"],
        Field(
            description="Generator that becomes the adapter. best: of those measured that do not copy, the one nearest to the "
            "held-out images, or to all images if fewer than 50 are held out; last: that of the last step."
        ),
    ] = "best"
    checkpoint_every: Annotated[int, Field(ge=1, description="Steps between checkpoints.")] = 250

    @field_validator("objective")
    @classmethod
    def _known(cls, value: object) -> object:
        if isinstance(value, str) and value not in OBJECTIVES:
            raise ValueError(unknown_name("objective", value, list(OBJECTIVES)))
        return value

    def take_count(self, n: int, where: str) -> int:
        """Return how many of ``n`` images (or codes) to use: ``take`` of them, else all.

        Args:
            n: how many there are.
            where: where they are, for the error.

        Raises:
            DataError: if there are fewer than ``take``.
        """
        if self.take is not None and self.take > n:
            raise DataError(f"{where}: --take {self.take}, and there are only {n} images")
        return n if self.take is None else self.take


class SampleJob(Config):
    """Settings of sampling."""

    n: Annotated[int, Field(ge=1, le=1_000_000, description="Number of images.")] = 64
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="Seed; image k of a seed is always the same.")] = 0
    first: Annotated[
        int, Field(ge=0, description="Index of the first image to make; images of a seed are numbered from 0.")
    ] = 0
    psi: Annotated[
        float,
        Field(
            ge=0, le=1, description="Truncation: 1 samples as trained, smaller values give more typical and less varied images."
        ),
    ] = 1.0
    label: Annotated[
        int | None, Field(ge=0, description="Number of the class to sample, from 0, if the generator has classes.")
    ] = None
    class_name: Annotated[
        str | None, Field(description="Name of the class to sample, or its number unless the names are numbers.")
    ] = None
    source_index: Annotated[
        int | None, Field(ge=0, description="Make every image with this one of several mined sources, counted from 0.")
    ] = None
    batch: Annotated[int, Field(ge=1, description="Images per forward pass; changes speed only.")] = 64
    device: Annotated[Device, Field(description="Where to compute. auto: cuda, else mps, else cpu.")] = "auto"


class EvaluateJob(Config):
    """Settings of an evaluation."""

    metrics: Annotated[
        tuple[str, ...], Field(description="Metrics. Default: all that apply and need no training of their own.")
    ] = ()
    extractor: Annotated[
        str,
        Field(
            description="Features to measure with: random_conv, critic, inception, mobilenet_v1:FILE, classifier:FILE or "
            "network:CARD."
        ),
    ] = "random_conv"
    cache: Annotated[bool, Field(description="Keep features of slow extractors on disk.")] = True
    n: Annotated[int, Field(ge=2, le=1_000_000, description="Images to sample from a run or source.")] = 1000
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="Seed of the samples and of the metrics' random draws.")] = 0
    size: Annotated[
        int | None, Field(ge=4, le=4096, description="Side that two sets of images are brought to before they are compared.")
    ] = None
    split: Annotated[
        str | None,
        Field(
            description="Split to measure against where real images lie in folders train, val and test, or all. "
            "Default: test, else val, else train."
        ),
    ] = None
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None,
        Field(description="How to fit images of another aspect ratio. Default: as in the run, else crop."),
    ] = None
    device: Annotated[Device, Field(description="Where to compute. auto: cuda, else mps, else cpu.")] = "auto"


class ClassifierJob(Config):
    """Settings of training a classifier."""

    size: Annotated[int, Field(ge=8, le=256, description="Side that images are brought to.")] = 32
    steps: Annotated[int, Field(ge=1, description="Optimiser steps.")] = 800
    batch: Annotated[int, Field(ge=1, description="Images per step.")] = 64
    rate: Annotated[float, Field(gt=0, description="Highest step size of the schedule.")] = 3e-3
    held_out: Annotated[
        float, Field(gt=0, lt=1, description="Share of each class that is kept out of training to measure the accuracy on.")
    ] = 0.2
    flip: Annotated[bool, Field(description="Mirror images at random; not for digits or letters.")] = False
    fit: Annotated[Literal["crop", "pad", "stretch"], Field(description="How to fit images of another aspect ratio.")] = "crop"
    seed: Annotated[
        int, Field(ge=0, lt=1 << 63, description="Seed of the first weights, the split and the order of images.")
    ] = 0
