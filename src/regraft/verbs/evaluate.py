"""The verb ``evaluate``: measure a run, a source or a set of images against real images."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from regraft.core.config import parse
from regraft.core.errors import DataError, RegraftError
from regraft.core.gan import GAN
from regraft.core.jobs import EvaluateJob
from regraft.data.images import Images, ImageSet
from regraft.data.opening import open_images
from regraft.data.pixels import Fit, decode
from regraft.evaluation.compare import compare, extractor, warn_of_equal_sets
from regraft.formats import native
from regraft.metrics.base import Score
from regraft.runs import adapter
from regraft.runs.folder import RunFolder
from regraft.runs.training_images import training_images
from regraft.verbs._arguments import Source
from regraft.verbs._open import open_gan
from regraft.verbs.load import lead_source, unfinished

Tell = Callable[[str], None]


def measure(
    fake: Any, gan: GAN | None, real: Any, training: Any, sources: Sequence[Any] | None, job: EvaluateJob, tell: Tell
) -> list[Score]:
    """Measure.

    Args:
        fake: a run, adapter, source, or images.
        gan: what it is as a GAN, None for images.
        real, training: images, listed or by path; training may be None.
        sources: of an adapter, if they are not where it expects them.
        job: settings.
        tell: told of what makes numbers mean little, or could not be measured.
    """
    folder = pathlib.Path(fake) if isinstance(fake, str | pathlib.Path) and adapter.is_adapter(pathlib.Path(fake)) else None
    fit = _fit(job, folder, tell)
    if gan is not None:
        size, channels = gan.generator.size, gan.generator.channels
        labels = gan.classes_at(job.n, job.seed)
        images = gan.sample(job.n, job.seed, y=labels)
        classes = gan.provenance.classes if len(gan.provenance.classes) == gan.generator.n_classes else ()
    else:
        listed = fake if isinstance(fake, ImageSet) else open_images(str(fake))
        size, channels = (job.size, job.size) if job.size else _size_of(listed), 3
        decoded = listed.decode(size, channels, fit)
        images, labels, classes = decoded.tensor(), decoded.labels, decoded.classes

    def prepared(which: str | pathlib.Path | ImageSet) -> Images:
        found = which if isinstance(which, ImageSet) else open_images(which)
        return found.decode(size, channels, fit)

    seen = prepared(training).tensor() if training is not None else _training_of(folder, tell)
    lead = lead_source(folder, sources) if folder is not None and job.extractor == "critic" else gan
    unseen, features = prepared(real), extractor(job.extractor, lead, job.cache)
    for note in warn_of_equal_sets(images, unseen.tensor(), seen):
        tell(note)
    return compare(
        images,
        unseen.tensor(),
        seen,
        features,
        job.metrics,
        job.seed,
        fake_labels=labels,
        real_labels=unseen.labels,
        fake_classes=classes,
        real_classes=unseen.classes,
        tell=tell,
    )


def _fit(job: EvaluateJob, folder: pathlib.Path | None, tell: Tell) -> Fit:
    """How real images are brought to size: as a run's own were, unless it is said otherwise."""
    own: Fit | None = adapter.read_config(folder)["image"].get("fit") if folder is not None else None
    if job.fit is not None and own is not None and job.fit != own:
        tell(
            f"real images are fitted by {job.fit}, and the run learned from images fitted by {own}: that alone is a difference"
        )
    return job.fit or own or "crop"


def _training_of(folder: pathlib.Path | None, tell: Tell) -> Tensor | None:
    """The images that a run was trained on, if its folder still finds them."""
    if folder is None or not RunFolder(folder).settings.is_file():
        return None
    try:
        return training_images(folder)
    except RegraftError as error:
        tell(f"copies are not measured: {error}; name the images of the training with --training")
        return None


def is_images(reference: Any) -> bool:
    """Whether what is to be measured is a set of images, and no run or source."""
    if isinstance(reference, GAN):
        return False
    path = pathlib.Path(str(reference).partition(".npz:")[0] + (".npz" if ".npz:" in str(reference) else ""))
    if path.suffix.lower() == ".npz":
        return True
    if path.suffix.lower() == ".zip" and path.is_file():
        return True
    if not path.is_dir() or adapter.is_adapter(path) or (path / native.RECORD).is_file() or unfinished(path):
        return False
    try:
        return len(open_images(path)) > 0
    except DataError:
        return False


def _size_of(listed: ImageSet) -> tuple[int, int]:
    """Size of the first readable image of a set."""
    content = listed.items[0].read()
    if isinstance(content, bytes):
        picture = decode(content, listed.items[0].name, lambda note: None)
        return picture.height, picture.width
    return content.shape[0], content.shape[1]


def evaluate(
    fake: Source | ImageSet,
    real: str | pathlib.Path | ImageSet,
    *,
    training: str | pathlib.Path | ImageSet | None = None,
    sources: Sequence[Source] | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> list[Score]:
    """Measure a run, a source or a set of images against real images.

    Args:
        fake: a run, adapter or source to sample, or a folder or archive of generated images.
        real: real images that training did not see.
        training: images that training saw, for copy rates and for the row of replayed ones; a run knows its own.
        sources: the sources of an adapter, if they are not where it expects them.
        on_event: told of what makes numbers mean little, and of what could not be measured.
        **settings: ``metrics``, ``extractor``, ``n``, ``seed``, ``size``, ``fit``, ``device``.

    Raises:
        DataError: if there are too few images.
    """
    job = parse(EvaluateJob, settings, "settings of evaluate")
    emit = on_event or (lambda event: None)
    gan = None if isinstance(fake, ImageSet) or is_images(fake) else open_gan(fake, sources, job.device)
    return measure(fake, gan, real, training, sources, job, lambda note: emit({"event": "note", "text": note}))
