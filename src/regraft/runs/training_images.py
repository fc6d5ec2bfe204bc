"""The images that a run was trained on, read again."""

import pathlib

from torch import Tensor

from regraft.core.errors import DataError
from regraft.data import rules
from regraft.data.split import select_images, split_images
from regraft.runs import adapter
from regraft.runs.folder import read_image_names, read_job


def training_images(folder: pathlib.Path) -> Tensor:
    """Read the images that a run was trained on from the path in its settings.

    Args:
        folder: the run folder.

    Returns:
        (N, C, H, W) in [-1, 1], without those held out.

    Raises:
        DataError: if they are gone or have changed.
    """
    job = read_job(folder)
    record = adapter.read_config(folder)
    listed = select_images(job, None, read_image_names(folder))
    class_names = record["data"].get("classes", ())
    if listed.classes != tuple(class_names) and set(listed.classes) <= set(class_names):
        # The method kept the classes of its source, and labels are numbers of those.
        listed = listed.with_classes(class_names)
    version, size = record["data"].get("rules", rules.FIRST), record["image"]["size"]
    decoded = listed.decode((size[0], size[1]), record["image"]["channels"], job.fit, job.on_bad, version)
    train = split_images(decoded, job, listed.where, version).train
    if train.digest != record["data"]["digest"]:
        raise DataError(f"{listed.where}: no longer the images that {folder} was trained on; name them with --training")
    return train.tensor()
