"""Self-attention over the places of a feature map, as GANs use it.

Source: Zhang et al. 2019, "Self-attention generative adversarial networks", with the pooled keys and values of BigGAN.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.backbones import _spectral


class SelfAttention(nn.Module):
    """x + gamma * o(values g(x), mixed by softmax(queries theta(x) . keys phi(x))); keys and values are pooled 2x2.

    Training starts at gamma 0, where the layer is the identity.
    """

    def __init__(self, channels: int, spectral: _spectral.Dialect | None, sn_eps: float = 1e-12) -> None:
        super().__init__()
        keys, values = max(1, channels // 8), max(1, channels // 2)

        def one_by_one(inputs: int, outputs: int) -> nn.Conv2d:
            return _spectral.conv(inputs, outputs, 1, bias=False, spectral=spectral, sn_eps=sn_eps)

        self.theta, self.phi = one_by_one(channels, keys), one_by_one(channels, keys)
        self.g, self.o = one_by_one(channels, values), one_by_one(values, channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), with H and W at least 2, to the same shape."""
        queries = self.theta(x).flatten(2)
        keys = functional.max_pool2d(self.phi(x), 2).flatten(2)
        values = functional.max_pool2d(self.g(x), 2).flatten(2)
        # The scores are not divided by the square root of their width, unlike a transformer's.
        weights = torch.softmax(queries.transpose(1, 2) @ keys, dim=-1)
        attended = (values @ weights.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        out: Tensor = self.gamma * self.o(attended) + x
        return out
