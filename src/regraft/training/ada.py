"""ADA: augmentation whose probability is adapted so that the critic does not memorise the target images.

The mean sign of the critic's scores of real images is near 0 for a critic that has not memorised them and near 1 for one that
has.  The probability starts at 0.  After every few steps it moves up if that mean is above its target, else down.

Source: Karras et al. 2020, "Training generative adversarial networks with limited data", section 3: target 0.6, interval 4;
there the probability takes 500,000 images to go from 0 to 1, far more than an adaptation sees.
"""

import torch
from torch import Tensor

from regraft.training.augment import Augmentation


class AdaptiveAugmentation(Augmentation):
    """Augmentation with a probability that follows the critic's scores.

    Attributes:
        probability: probability of each kind for each image.
        total, count: sum and number of signs since the probability last moved.
        steps: critic steps since then.
        sign: mean sign when the probability last moved.
    """

    probability: Tensor
    total: Tensor
    count: Tensor
    steps: Tensor
    sign: Tensor

    def __init__(self, kinds: tuple[str, ...], target: float = 0.6, images: int = 20_000, interval: int = 4) -> None:
        """Start at probability 0.

        Args:
            kinds: see :func:`augment`.
            target: mean sign of real scores above which the probability rises.
            images: how many real images it takes to go from probability 0 to 1.
            interval: critic steps between two moves.
        """
        super().__init__(kinds)
        self.target, self.images, self.interval = target, images, interval
        for name in ("probability", "total", "count", "steps", "sign"):
            self.register_buffer(name, torch.zeros([]))
        self._signs: list[Tensor] = []

    @property
    def now(self) -> float:
        """See :attr:`Augmentation.now`."""
        return float(self.probability)

    def observe(self, real_scores: Tensor) -> None:
        """Remember the signs of scores (N,); buffers change in :meth:`after_step` only."""
        self._signs.append(real_scores.detach().sign())

    @torch.no_grad()
    def after_step(self) -> None:
        """Count the step; at the end of an interval, move the probability."""
        signs = torch.cat(self._signs) if self._signs else self.total.new_zeros(0)
        self._signs = []
        self.total += signs.sum()
        self.count += len(signs)
        self.steps += 1
        if self.steps < self.interval or not self.count:
            return
        self.sign.copy_(self.total / self.count)
        move = torch.sign(self.sign - self.target) * self.count / self.images
        self.probability.copy_((self.probability + move).clamp(0, 1))
        for buffer in (self.total, self.count, self.steps):
            buffer.zero_()
