"""Choose which codes of a codes file a job trains on, and refuse settings that need the images themselves."""

import collections
import dataclasses

from regraft.core.errors import ConfigError, DataError
from regraft.core.jobs import AdaptJob
from regraft.data.codes import Codes
from regraft.verbs.adapting import choices


def choose(job: AdaptJob, codes: Codes) -> tuple[AdaptJob, Codes, list[str]]:
    """Choose the codes that a job trains on.

    Args:
        job: the settings.
        codes: all codes of the file that the job names.

    Returns:
        The settings with ``labels`` and ``fit`` filled in; the codes to train on; and notes, one sentence each.

    Raises:
        ConfigError: naming every setting that needs images.
        DataError: if the file has no such class, or fewer codes than the job takes.
    """
    fit = codes.record.get("fit") or job.fit
    _refuse_image_settings(job, fit)
    if job.only_class is not None:
        codes = _of_class(codes, job.only_class, job.images)
    counts = collections.Counter([] if codes.labels is None else codes.labels.tolist())
    learned, reason = choices.labels(job.labels, codes.classes, [counts[k] for k in range(codes.n_classes)], None)
    if not learned:
        codes = dataclasses.replace(codes, labels=None, classes=())
    codes = codes.select(range(job.take_count(codes.n, job.images)))
    notes = [reason] if reason else []
    notes.append("trained from codes: no images to hold out, so nothing is measured; see regraft evaluate and diagnose")
    return job.model_copy(update={"fit": fit, "labels": learned}), codes, notes


def _refuse_image_settings(job: AdaptJob, fit: str) -> None:
    """Refuse settings that need images; ``fit`` is how the images were fitted when they were encoded."""
    refused = [f"--held-out {job.held_out} (no image is there to measure on)"] if job.held_out else []
    refused += [f"--evaluate-every {job.evaluate_every} (no image is held out)"] if job.evaluate_every else []
    refused += ["--flip on (mirror images were not encoded)"] if job.flip == "on" else []
    if "fit" in job.model_fields_set and job.fit != fit:
        refused.append(f"--fit {job.fit} (the images were encoded with --fit {fit})")
    if refused:
        raise ConfigError(f"{job.images}: codes do not allow {', '.join(refused)}; leave that out, or name the images instead")


def _of_class(codes: Codes, name: str, where: str) -> Codes:
    """Return the codes of one class, without labels."""
    if codes.labels is None or name not in codes.classes:
        raise DataError(f"{where}: no class {name}; there are: {', '.join(codes.classes) or 'no classes'}")
    rows = (codes.labels == codes.classes.index(name)).nonzero().flatten()
    return dataclasses.replace(codes.select(rows), labels=None, classes=())
