"""The images that a run was trained on, read again."""

import pathlib

import torch

from regraft.core.errors import DataError
from regraft.data.split import select_images, split_images
from regraft.runs import adapter
from regraft.runs.folder import read_job


def training_images(folder: pathlib.Path) -> torch.Tensor:
    """The images that a run was trained on, read again from where its settings say.

    Raises:
        DataError: if they are gone or are no longer the same.
    """
    job = read_job(folder)
    record = adapter.read_config(folder)
    listed = select_images(job, None)
    named = record["data"].get("classes", ())
    if listed.classes != tuple(named) and set(listed.classes) <= set(named):  # the source's, which the method kept
        listed = listed.with_classes(named)
    decoded = listed.decode(tuple(record["image"]["size"]), record["image"]["channels"], fit=job.fit, on_bad=job.on_bad)
    train, _ = split_images(decoded, job, listed.where)
    if train.digest != record["data"]["digest"]:
        raise DataError(f"{listed.where}: no longer the images that {folder} was trained on; name them with --training")
    return train.tensor()
