"""The verb ``evaluate``: measure a run, a source or a set of images against real images."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from regraft.core.config import parse
from regraft.core.errors import DataError, RegraftError
from regraft.core.gan import GAN
from regraft.core.jobs import EvaluateJob
from regraft.data.given_labels import GivenLabels
from regraft.data.images import ImageSet
from regraft.data.opening import open_images
from regraft.data.patterns import is_pattern
from regraft.data.pixels import Fit, decode
from regraft.data.splits import ALL
from regraft.evaluation.compare import compare, extractor, warn_of_equal_sets
from regraft.formats import native
from regraft.metrics.base import Score
from regraft.runs import adapter
from regraft.runs.folder import RunFolder
from regraft.runs.training_images import training_images
from regraft.verbs._arguments import Emit, ImagesArgument, Source, ignore_event, list_images, teller
from regraft.verbs._open import open_gan
from regraft.verbs.load import lead_source, unfinished

Tell = Callable[[str], None]

UNSEEN_SPLITS = ("test", "val", "train")
"""Where real images lie in folders of splits, the first of these that is there is measured against."""


@dataclasses.dataclass(frozen=True)
class _Fakes:
    """Generated images.

    Attributes:
        images: (N, C, H, W) in [-1, 1].
        labels: classes that they should show, (N,), or None.
        classes: names of the labels; empty if they are unknown.
    """

    images: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]


def evaluate(
    fake: Source | ImagesArgument,
    real: ImagesArgument,
    *,
    training: ImagesArgument | None = None,
    labels: GivenLabels | None = None,
    sources: Sequence[Source] | None = None,
    on_event: Emit | None = None,
    **settings: Any,
) -> list[Score]:
    """Measure a run, a source or a set of images against real images.

    Args:
        fake: a run, adapter or source to sample, or generated images: a path, or in memory as :func:`regraft.open_images`
            takes them.
        real: real images that training did not see, by path or in memory.
        training: images that training saw, for copy rates and for the scores of replayed training images; a run knows its own.
        labels: the class of each real image; generated ones with labels come from :func:`regraft.open_images`.
        sources: the sources of an adapter, if they are not where it expects them.
        on_event: called with each note on what makes numbers mean little, and on what cannot be measured.
        **settings: ``metrics``, ``extractor``, ``n``, ``seed``, ``size``, ``fit``, ``split``, ``device``.

    Returns:
        One score per metric, each with its interval where one can be given.

    Raises:
        ConfigError: if a setting is wrong, or a named metric lacks something that it needs.
        DataError: if images cannot be read, or there are too few.
        SourceError, AdapterError: if ``fake`` cannot be opened.
    """
    job = parse(EvaluateJob, settings, "settings of evaluate")
    emit = on_event or ignore_event
    tell = teller(emit)

    gan, folder = None, None
    if isinstance(fake, GAN) or (isinstance(fake, str | pathlib.Path) and not is_images(fake)):
        gan = open_gan(fake, sources, job.device)
        folder = None if isinstance(fake, GAN) or not adapter.is_adapter(pathlib.Path(fake)) else pathlib.Path(fake)
        fit = _choose_fit(job, folder, tell)
        fakes = _sample_fakes(gan, job)
    else:
        fit = _choose_fit(job, None, tell)
        fakes = _decode_fakes(list_images(fake, teller(emit, "generated images")), job, fit)
    channels, height, width = fakes.images.shape[1:]
    if training is not None:
        listed = list_images(training, teller(emit, "training images"))
        seen: Tensor | None = listed.decode((height, width), channels, fit).tensor()
    else:
        seen = _training_of(folder, tell)
    critic_of = lead_source(folder, sources) if folder is not None and job.extractor == "critic" else gan
    real_images = list_images(real, teller(emit, "real images"), split=job.split or UNSEEN_SPLITS, labels=labels)
    unseen = real_images.decode((height, width), channels, fit)
    features = extractor(job.extractor, critic_of, job.cache)
    for note in warn_of_equal_sets(fakes.images, unseen.tensor(), seen):
        tell(note)
    return compare(
        fakes.images,
        unseen.tensor(),
        seen,
        features,
        job.metrics,
        job.seed,
        fake_labels=fakes.labels,
        real_labels=unseen.labels,
        fake_classes=fakes.classes,
        real_classes=unseen.classes,
        tell=tell,
    )


def is_images(reference: str | pathlib.Path) -> bool:
    """Return whether a path or pattern is a set of images, and not a run or source."""
    path = pathlib.Path(reference)
    if is_pattern(str(reference)) and not path.exists():
        return True
    if path.suffix.lower() in (".npz", ".zip"):
        return True
    if path.is_dir() and (adapter.is_adapter(path) or (path / native.RECORD).is_file() or unfinished(path)):
        return False
    try:
        return len(open_images(reference, split=ALL)) > 0
    except DataError:
        return False


def _sample_fakes(gan: GAN, job: EvaluateJob) -> _Fakes:
    labels = gan.classes_at(job.n, job.seed)
    classes = gan.provenance.classes if len(gan.provenance.classes) == gan.generator.n_classes else ()
    return _Fakes(gan.sample(job.n, job.seed, y=labels), labels, classes)


def _decode_fakes(listed: ImageSet, job: EvaluateJob, fit: Fit) -> _Fakes:
    size = (job.size, job.size) if job.size else _size_of(listed)
    decoded = listed.decode(size, 3, fit)
    return _Fakes(decoded.tensor(), decoded.labels, decoded.classes)


def _size_of(listed: ImageSet) -> tuple[int, int]:
    """Return height and width of the first image of a set."""
    picture = decode(listed.items[0].read(), listed.items[0].name, lambda note: None)
    return picture.height, picture.width


def _choose_fit(job: EvaluateJob, folder: pathlib.Path | None, tell: Tell) -> Fit:
    """Choose how real images are fitted: as the setting says, else as the run's training images were, else by crop."""
    run_fit: Fit | None = adapter.read_config(folder)["image"].get("fit") if folder is not None else None
    if job.fit is not None and run_fit is not None and job.fit != run_fit:
        tell(
            f"real images are fitted by {job.fit}, and the run learned from images fitted by {run_fit}: "
            "that alone is a difference"
        )
    return job.fit or run_fit or "crop"


def _training_of(folder: pathlib.Path | None, tell: Tell) -> Tensor | None:
    """Read the images that a run was trained on; None, with a note, if they are not found."""
    if folder is None or not RunFolder(folder).settings.is_file():
        return None
    try:
        return training_images(folder)
    except RegraftError as error:
        tell(f"copies are not measured: {error}; name the images of the training with --training")
        return None
