"""How many target images look like each of several kinds of generated images."""

import torch
from torch import Tensor, nn

from regraft.core.networks import Critic

LEAST_SHARE = 1e-3
"""Keeps a kind that nothing looked like so far able to come back."""


class TargetShares(nn.Module):
    """Shares of target images by kind, as running averages that move once per step.

    A target image is of the kind of its nearest neighbour in the critic's features, among as many generated images of each
    kind.  How often generated images of one kind look like another is counted in the same way and corrected for.

    Attributes:
        confusion: row j: how often images of kind j look like each kind, (N, N).
        seen: how often target images look like each kind, (N,).
        shares: ``seen`` corrected for ``confusion``, (N,).
        steps: how many steps these are averaged over.

    Source: Lipton et al. 2018, "Detecting and correcting for label shift with black box predictors", for the correction.
    """

    confusion: Tensor
    seen: Tensor
    shares: Tensor
    steps: Tensor

    def __init__(self, n: int, rate: float) -> None:
        """Begin with equal shares.

        Args:
            n: number of kinds.
            rate: how far one step moves the averages, in (0, 1].
        """
        super().__init__()
        self.rate = rate
        self.register_buffer("confusion", torch.full((n, n), 1 / n))
        self.register_buffer("seen", torch.full((n,), 1 / n))
        self.register_buffer("shares", torch.full((n,), 1 / n))
        self.register_buffer("steps", torch.zeros([]))
        self._noted: list[tuple[Tensor, Tensor, bool]] = []

    @property
    def noted(self) -> bool:
        """Whether anything was noted since the last :meth:`after_step`."""
        return bool(self._noted)

    @torch.no_grad()
    def note(self, fake: Tensor, real: Tensor, critic: Critic) -> None:
        """Remember the features of images until the next :meth:`after_step`.

        Args:
            fake: generated images, as many of each kind, (N, B, C, H, W).
            real: target images, (M, C, H, W).
            critic: gives the features; all images go through it as one batch.
        """
        n, b = fake.shape[:2]
        features = penultimate(critic, torch.cat([fake.flatten(0, 1), real])).float()
        self._noted.append((features[: n * b].view(n, b, -1), features[n * b :], critic.batch_dependent))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the averages by what was noted."""
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        if not noted[0][2]:  # else features can be compared within one batch only
            noted = [(torch.cat([fake for fake, _, _ in noted], dim=1), torch.cat([real for _, real, _ in noted]), False)]
        kinds = [nearest_kind(fake, real) for fake, real, _ in noted if fake.shape[1] > 1]
        if not kinds:
            return
        self.steps += 1
        rate = max(self.rate, 1 / float(self.steps))
        self.confusion.lerp_(torch.stack([of_fakes for of_fakes, _ in kinds]).mean(0), rate)
        self.seen.lerp_(torch.stack([of_targets for _, of_targets in kinds]).mean(0), rate)
        self.correct_for_confusion()

    def correct_for_confusion(self) -> None:
        """Move ``shares`` towards the solution of shares @ confusion = seen."""
        # Expectation maximisation stays a distribution, whatever the noise; from one step to the next it converges.
        for _ in range(5):
            joint = self.shares[:, None] * self.confusion
            shares = (joint / joint.sum(0).clamp_min(1e-12) * self.seen).sum(1).clamp_min(LEAST_SHARE)
            self.shares.copy_(shares / shares.sum())


def penultimate(critic: Critic, images: Tensor) -> Tensor:
    """Return the inputs of a critic's last stage, (N, D)."""
    inputs_of_last: list[Tensor] = []
    hook = critic.stages[-1].register_forward_pre_hook(lambda module, inputs: inputs_of_last.append(inputs[0]))
    try:
        critic(images)
    finally:
        hook.remove()
    return inputs_of_last[0].flatten(1)


def nearest_kind(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Find the kind of the nearest generated image, for generated and for target images.

    Args:
        fake: features of as many images of each kind, (N, B, D).
        real: features of target images, (M, D).

    Returns:
        For each kind, the shares of its images that are nearest to each kind, (N, N), and the same for target images, (N,).
    """
    n, b, _ = fake.shape
    flat = fake.flatten(0, 1)
    distances = torch.cdist(flat, flat).view(n, b, n, b)
    # No image is its own neighbour; the other kinds lack the same row, so that all have equally many.
    same = torch.arange(b, device=flat.device)
    distances[:, same, :, same] = float("inf")
    of_fakes = distances.amin(3).argmin(2)
    of_targets = torch.cdist(real, flat).view(len(real), n, b).amin(2).argmin(1)
    one_hot = nn.functional.one_hot
    return one_hot(of_fakes, n).float().mean(1), one_hot(of_targets, n).float().mean(0)
