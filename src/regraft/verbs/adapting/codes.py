"""Training from codes in place of images: which settings hold for them, and which would need the images."""

import collections
import dataclasses
from typing import Any

from regraft.core.errors import ConfigError, DataError
from regraft.core.jobs import AdaptJob
from regraft.data.codes import Codes
from regraft.verbs.adapting import choices


def chosen(job: AdaptJob, data: Codes) -> tuple[Codes, dict[str, Any], list[str]]:
    """The codes that a job trains on.

    Args:
        job: the settings.
        data: all codes of the file that it names.

    Returns:
        Some of the codes, settings with what was open or follows from the codes, and notes.

    Raises:
        ConfigError: naming every setting that asks for what codes do not have.
        DataError: if there is no such class, or fewer codes than are to be taken.
    """
    fit = data.record.get("fit") or job.fit
    wrong = [f"--held-out {job.held_out} (no image is there to measure on)"] if job.held_out else []
    wrong += [f"--evaluate-every {job.evaluate_every} (no image is held out)"] if job.evaluate_every else []
    wrong += ["--flip on (mirror images were not encoded)"] if job.flip == "on" else []
    if "fit" in job.model_fields_set and job.fit != fit:
        wrong.append(f"--fit {job.fit} (the images were encoded with --fit {fit})")
    if wrong:
        raise ConfigError(f"{job.images}: codes do not allow {', '.join(wrong)}; leave that out, or name the images instead")
    if job.only_class is not None:
        data = _of_class(data, job.only_class, job.images)
    counts = collections.Counter([] if data.labels is None else data.labels.tolist())
    labelled, reason = choices.labels(job.labels, data.classes, [counts[k] for k in range(data.n_classes)], None)
    if not labelled:
        data = dataclasses.replace(data, labels=None, classes=())
    data = data.select(range(job.take_count(data.n, job.images)))
    notes = [reason] if reason else []
    notes.append("trained from codes: no images to hold out, so nothing is measured; see regraft evaluate and diagnose")
    return data, {"held_out": 0, "flip": "off", "fit": fit, "labels": labelled}, notes


def _of_class(data: Codes, name: str, where: str) -> Codes:
    if data.labels is None or name not in data.classes:
        raise DataError(f"{where}: no class {name}; there are: {', '.join(data.classes) or 'no classes'}")
    rows = (data.labels == data.classes.index(name)).nonzero().flatten()
    return dataclasses.replace(data.select(rows), labels=None, classes=())
