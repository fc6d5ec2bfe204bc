"""Measuring a run, a source or a set of images, as ``regraft evaluate`` does."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from regraft import _finishing, adapter, loading
from regraft._pixels import Fit, decode
from regraft.errors import DataError, RegraftError
from regraft.evaluation import compare, extractor, repeated
from regraft.formats import native
from regraft.gan import GAN
from regraft.images import Images, ImageSet, open_images
from regraft.jobs import EvaluateJob
from regraft.metrics.base import Score

Tell = Callable[[str], None]


def evaluate(
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
    judge = loading.lead_source(folder, sources) if folder is not None and job.extractor == "critic" else gan
    unseen, features = prepared(real), extractor(job.extractor, judge, job.cache)
    for note in repeated(images, unseen.tensor(), seen):
        tell(note)
    return compare(
        images, unseen.tensor(), seen, features, job.metrics, job.seed, fake_labels=labels, real_labels=unseen.labels,
        fake_classes=classes, real_classes=unseen.classes, tell=tell,
    )  # fmt: skip


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
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    try:
        return _finishing.training_images(folder)
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
    if not path.is_dir() or adapter.is_adapter(path) or (path / native.RECORD).is_file() or loading.unfinished(path):
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
