"""Settings of the verbs: the command line's options, a run's config.yaml and the API's keywords are all made from these."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from regraft.core.config import OBJECTIVES, Config
from regraft.core.errors import DataError

Device = Literal["auto", "cpu", "cuda", "mps"]
SourceName = str


class AdaptJob(Config):
    """Settings of one adaptation."""

    images: Annotated[str, Field(description="Target images: a folder, a folder of class folders, a .zip or an .npz.")]
    sources: Annotated[
        tuple[SourceName, ...],
        Field(description="Pretrained GANs: files, folders, source cards, runs or names of bundled ones."),
    ] = ()
    method: Annotated[str, Field(description="Adaptation method; auto chooses and says why.")] = "auto"
    out: Annotated[str | None, Field(description="Run folder; runs/<name of images> if left out. Never overwritten.")] = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="Decides every random draw.")] = 0
    steps: Annotated[int | None, Field(ge=0, description="Training steps; the method's own number if left out.")] = None
    more: Annotated[
        int, Field(ge=0, description="Steps added to the last phase; with --resume and --out, a finished run goes on there.")
    ] = 0
    batch: Annotated[
        int | Literal["auto"] | None,
        Field(description="Images per step; auto: computed in as many parts as memory needs."),
    ] = None
    accumulate: Annotated[int, Field(ge=1, le=4096, description="Parts that a batch is computed in; saves memory.")] = 1
    device: Annotated[Device, Field(description="Where to compute.")] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16"], Field(description="Of forward and backward; penalties stay in float32.")
    ] = "float32"
    take: Annotated[int | None, Field(ge=1, description="Use only the first so many images, in the order of their names.")] = (
        None
    )
    only_class: Annotated[str | None, Field(description="Use only the images of one class folder.")] = None
    labels: Annotated[
        bool | None,
        Field(description="Learn class folders as classes; if left out, where method and source can and classes are not tiny."),
    ] = None
    fit: Annotated[Literal["crop", "pad", "stretch"], Field(description="What happens to images of another aspect ratio.")] = (
        "crop"
    )
    flip: Annotated[
        Literal["auto", "on", "off"],
        Field(description="Mirror training images at random; auto: unless mirror images look foreign."),
    ] = "auto"
    on_bad: Annotated[Literal["error", "skip"], Field(description="What happens to unreadable images.")] = "error"
    held_out: Annotated[
        int | None, Field(ge=0, description="Images kept from training to measure on; a share of them if left out.")
    ] = None
    objective: Annotated[
        str | dict[str, Any] | None,
        Field(description=f"Loss instead of the source's own: {', '.join(OBJECTIVES)}; its settings by --set objective.*."),
    ] = None
    recipe: Annotated[dict[str, Any], Field(description="Training settings instead of the source's own.")] = {}
    settings: Annotated[dict[str, Any], Field(description="The method's settings.")] = {}
    extractor: Annotated[
        str,
        Field(
            description="Features to measure with: random_conv, critic, inception; or classifier, mobilenet_v1, network :FILE."
        ),
    ] = "random_conv"
    evaluate_every: Annotated[int | None, Field(ge=0, description="Steps between held-out measurements; 0 for none.")] = None
    patience: Annotated[
        int, Field(ge=0, description="Clearly worse held-out measurements in a row that end the run early; 0 for never.")
    ] = 8
    keep: Annotated[
        Literal["best", "last"],
        Field(
            description="Which generator becomes the adapter: the best seen (nearest to held-out images, to all with fewer "
            "than 50 of them, and not copying), or the last."
        ),
    ] = "best"
    checkpoint_every: Annotated[int, Field(ge=1, description="Steps between checkpoints.")] = 250

    @field_validator("objective")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in OBJECTIVES:
            from regraft.core.config import unknown_name

            raise ValueError(unknown_name("objective", value, list(OBJECTIVES)))
        return value

    def take_count(self, n: int, where: str) -> int:
        """How many to use of ``n`` images, or of their codes, that are in ``where``.

        Raises:
            DataError: if there are not as many as ``take`` says.
        """
        if self.take is not None and self.take > n:
            raise DataError(f"{where}: --take {self.take}, and there are only {n} images")
        return n if self.take is None else self.take


class SampleJob(Config):
    """Settings of sampling."""

    n: Annotated[int, Field(ge=1, le=1_000_000, description="Number of images.")] = 64
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="With its index decides each image.")] = 0
    first: Annotated[int, Field(ge=0, description="Index of the first image of the seed.")] = 0
    psi: Annotated[float, Field(ge=0, le=1, description="Truncation: 1 as trained, less for typical images.")] = 1.0
    label: Annotated[int | None, Field(ge=0, description="Number of the class to sample, for conditional generators.")] = None
    class_name: Annotated[str | None, Field(description="Name of the class or, unless names are numbers, its number.")] = None
    source_index: Annotated[
        int | None, Field(ge=0, description="Make every image with this source, from 0, where several were mined.")
    ] = None
    batch: Annotated[int, Field(ge=1, description="Images per forward pass; changes speed only.")] = 64
    device: Annotated[Device, Field(description="Where to compute.")] = "auto"


class EvaluateJob(Config):
    """Settings of an evaluation."""

    metrics: Annotated[
        tuple[str, ...], Field(description="Measures; if left out all that apply and take no training of their own.")
    ] = ()
    extractor: Annotated[
        str,
        Field(
            description="Features to measure with: random_conv, critic, inception, mobilenet_v1:FILE, classifier:FILE or "
            "network:CARD."
        ),
    ] = "random_conv"
    cache: Annotated[bool, Field(description="Keep features of costly extractors on disk.")] = True
    n: Annotated[int, Field(ge=2, le=1_000_000, description="Images to sample from a run or source.")] = 1000
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="Of the samples and of what metrics draw.")] = 0
    size: Annotated[int | None, Field(ge=4, le=4096, description="Side to compare two sets of images at.")] = None
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None,
        Field(description="What happens to images of another aspect ratio; as in the run, or crop, if left out."),
    ] = None
    device: Annotated[Device, Field(description="Where to compute.")] = "auto"


class ClassifierJob(Config):
    """Settings of training a classifier."""

    size: Annotated[int, Field(ge=8, le=256, description="Side of the images that it sees.")] = 32
    steps: Annotated[int, Field(ge=1, description="Optimiser steps.")] = 800
    batch: Annotated[int, Field(ge=1, description="Images per step.")] = 64
    rate: Annotated[float, Field(gt=0, description="Highest step size.")] = 3e-3
    held_out: Annotated[float, Field(gt=0, lt=1, description="Share of each class to measure the accuracy on.")] = 0.2
    flip: Annotated[bool, Field(description="Mirror images at random; not for digits or letters.")] = False
    fit: Annotated[Literal["crop", "pad", "stretch"], Field(description="What happens to images of another aspect ratio.")] = (
        "crop"
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 63, description="Decides start, split and order.")] = 0
