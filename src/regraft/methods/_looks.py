"""How many target images look like each of several kinds of generated images."""

import torch
from torch import Tensor, nn

from regraft.core.networks import Critic

LEAST_SHARE = 1e-3
"""Keeps a kind that nothing looked like so far able to come back."""


class Looks(nn.Module):
    """Shares of target images by kind, as running averages that move once per step.

    A target image is of the kind of its nearest neighbour in the critic's features, among as many generated images of each
    kind.  How often generated images of one kind look like another is counted in the same way, and taken out.

    Attributes:
        confusion: row j: how often images of kind j look like each kind, (N, N).
        seen: how often target images look like each kind, (N,).
        shares: ``seen`` with ``confusion`` taken out, (N,).
        steps: how many steps these are averaged over.

    Source: Lipton et al. 2018, "Detecting and correcting for label shift with black box predictors", for taking confusion out.
    """

    confusion: Tensor
    seen: Tensor
    shares: Tensor
    steps: Tensor

    def __init__(self, n: int, rate: float) -> None:
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
        """Remember images until the next :meth:`after_step`.

        Args:
            fake: as many of each kind, (N, B, C, H, W).
            real: target images, (M, C, H, W).
            critic: whose features count; all images go through it as one batch.
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
            noted = [(torch.cat([f for f, _, _ in noted], dim=1), torch.cat([r for _, r, _ in noted]), False)]
        found = [nearest_kind(fake, real) for fake, real, _ in noted if fake.shape[1] > 1]
        if not found:
            return
        self.steps += 1
        rate = max(self.rate, 1 / float(self.steps))
        self.confusion.lerp_(torch.stack([confusion for confusion, _ in found]).mean(0), rate)
        self.seen.lerp_(torch.stack([seen for _, seen in found]).mean(0), rate)
        self.take_confusion_out()

    def take_confusion_out(self) -> None:
        """Move ``shares`` towards what explains ``seen`` best."""
        # Expectation maximisation stays a distribution, whatever the noise; from one step to the next it converges.
        for _ in range(5):
            joint = self.shares[:, None] * self.confusion
            shares = (joint / joint.sum(0).clamp_min(1e-12) * self.seen).sum(1).clamp_min(LEAST_SHARE)
            self.shares.copy_(shares / shares.sum())


def penultimate(critic: Critic, images: Tensor) -> Tensor:
    """What a critic's last stage is given, (N, D)."""
    seen: list[Tensor] = []
    hook = critic.stages[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        critic(images)
    finally:
        hook.remove()
    return seen[0].flatten(1)


def nearest_kind(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Whose images are nearest to each kind's other images, (N, N), and to target images, (N,), as shares.

    Args:
        fake: features of as many images of each kind, (N, B, D).
        real: features of target images, (M, D).
    """
    n, b, _ = fake.shape
    flat = fake.flatten(0, 1)
    own = torch.cdist(flat, flat).view(n, b, n, b)
    # No image is its own neighbour; the other kinds lack the same row, so that all have equally many.
    same = torch.arange(b, device=flat.device)
    own[:, same, :, same] = float("inf")
    of_fakes = own.amin(3).argmin(2)
    of_real = torch.cdist(real, flat).view(len(real), n, b).amin(2).argmin(1)
    one_hot = nn.functional.one_hot
    return one_hot(of_fakes, n).float().mean(1), one_hot(of_real, n).float().mean(0)
