"""Choose what a user left open, and give the reason."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.randomness import subset

# A mirrored image of a mirror-symmetric set (faces, paintings, flowers) lies as near to the set as the image itself; measured
# at 10 to 100 images, the nearest neighbour of mirrored digits is 16 % or more farther, of faces, cats and flowers at most 3 %.
FOREIGN_GAP = 0.10
FOREIGN_EVIDENCE = 2.0
MIRRORED = 2000  # images compared with mirrored ones at most; memory grows with the square
FEW = 10  # images of a class, below which folders are not taken for classes unless asked


def flip(setting: str, images: Tensor) -> tuple[bool, str | None]:
    """Choose whether to mirror training images at random.

    Args:
        setting: ``on``, ``off`` or ``auto``.
        images: (N, C, H, W) in [-1, 1].

    Returns:
        The choice, and its reason if it was open.
    """
    if setting != "auto":
        return setting == "on", None
    if len(images) < 3:
        return False, "no mirroring: too few images to see whether mirror images look foreign"
    gap, evidence = mirror_gap(images)
    comparison = (
        f"mirrored images are {abs(gap):.0%} {'farther from' if gap > 0 else 'nearer to'} the set than the images themselves"
    )
    foreign = gap > FOREIGN_GAP and evidence > FOREIGN_EVIDENCE
    return not foreign, f"{'no mirroring' if foreign else 'mirroring at random'}: {comparison}"


def mirror_gap(images: Tensor) -> tuple[float, float]:
    """Measure how much farther mirrored images are from their nearest other image than the images themselves.

    Args:
        images: (N, C, H, W); of more than 2,000, that many are drawn.

    Returns:
        The mean difference of the distances, relative to the mean distance of the images themselves; and in standard errors.
    """
    if len(images) > MIRRORED:
        images = images[subset(len(images), MIRRORED, 0)]
    small = torch.nn.functional.interpolate(images, size=(16, 16), mode="area")
    straight, mirrored = small.flatten(1), small.flip(3).flatten(1)
    distance = torch.cdist(straight, straight).fill_diagonal_(float("inf")).min(1).values
    mirrored_distance = torch.cdist(mirrored, straight).fill_diagonal_(float("inf")).min(1).values
    difference = mirrored_distance - distance
    error = difference.std() / len(images) ** 0.5
    return float(difference.mean() / distance.mean().clamp_min(1e-6)), float(difference.mean() / error.clamp_min(1e-9))


def method(setting: str, n: int, n_sources: int, with_critics: bool, only_encode: bool = False) -> tuple[str, str | None]:
    """Choose the method.

    Args:
        setting: a method's name, or ``auto``.
        n: number of target images.
        n_sources: number of sources.
        with_critics: whether every source has its critic.
        only_encode: whether the sources have autoencoders and no critics.

    Returns:
        The choice, and its reason if it was open.

    Raises:
        ConfigError: if it is open and there is no source.
    """
    if setting != "auto":
        return setting, None
    if n_sources == 0:
        raise ConfigError("which source? Name a pretrained GAN with --source, or train a new one with --method scratch")
    if n_sources > 1:
        return "minegan", f"method minegan: it is the one that learns from several sources ({n_sources} given)"
    if only_encode:
        return "mind2mind", "method mind2mind: the source is an autoencoder without a critic, and mind2mind learns its codes"
    if not with_critics:
        return "transfergan", "method transfergan: the source has no critic, so a new one is trained beside the generator"
    return "freezed", f"method freezed: with {n} images, a critic that keeps its first stage copies least and matches best"


def labels(setting: bool | None, names: Sequence[str], counts: Sequence[int], obstacle: str | None) -> tuple[bool, str | None]:
    """Choose whether to learn the classes of the target images.

    Args:
        setting: True or False as the user says, None to choose.
        names: of the classes.
        counts: number of images of each class.
        obstacle: why the classes cannot be learned, or None.

    Returns:
        The choice, and its reason if it was open.

    Raises:
        ConfigError: if the user asks for labels that cannot be learned.
    """
    if setting is False or not (names or setting):
        return False, None
    if not names:
        raise ConfigError("--labels: the images are not in class folders, and no labels come with them")
    rarest = min(range(len(names)), key=counts.__getitem__)
    if obstacle is None and (len(names) < 2 or counts[rarest] < (1 if setting else FEW)):
        few = f"class {names[rarest]} has {counts[rarest]} images" if len(names) > 1 else "there is one class only"
        obstacle = few + ("" if setting else f"; --labels takes fewer than {FEW}, too")
    if setting and obstacle is not None:
        raise ConfigError(f"--labels: {obstacle}")
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    if setting:
        return True, None
    if obstacle is not None:
        return False, f"class folders ({listed}) are not learned as classes: {obstacle}"
    return True, f"class folders are learned as {len(names)} classes ({listed}); --no-labels makes one generator of all"
