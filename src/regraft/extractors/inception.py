"""The Inception network of December 2015, with which published FID, KID and IS values are computed.

It is the TorchScript translation of the TensorFlow graph, distributed with StyleGAN2-ADA.  The program takes bytes of any size
and resizes them to 299 pixels itself, by TensorFlow's bilinear rule (without smoothing); the channel of grey images is
repeated.  A TorchScript file is a program: only this one, known by its digest, is run.

Source: Heusel et al. 2017 (FID); Karras et al. 2020, "Training generative adversarial networks with limited data" (the file).
"""

import pathlib

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.gan import GAN
from regraft.extractors import _weights
from regraft.extractors._images import three_channels
from regraft.extractors.base import Extractor, Features

URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"


class Inception(Extractor):
    """The Inception network that FID is defined by."""

    summary = "Inception of 2015, 2048 features: the one that FID is named after (a file of 96 MB, fetched once or named)"
    costly = True

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Check the file's digest, then load it."""
        path = weights if weights is not None else _weights.fetch(URL, SHA256, "--extractor inception:FILE")
        digest = _weights.sha256_of(path)
        if digest != SHA256:
            raise SourceError(
                f"{path}: is not the Inception file that FID is defined by (sha256 {digest}, and it must be {SHA256}); for "
                "another network use the extractor network with a card"
            )
        program = _weights.load_torchscript(path)

        def function(images: Tensor) -> Tensor:
            features: Tensor = program(as_bytes(images), return_features=True)
            return features.flatten(1)

        head = (dict(program.named_parameters()) | dict(program.named_buffers())).get("output.weight", torch.empty(0))
        if head.dim() != 2:
            return Features("inception", digest, function, batch=32)

        def classify(images: Tensor) -> tuple[Tensor, Tensor]:
            # The published inception score leaves the last layer's bias out.
            features = function(images)
            return features, features @ head.to(features).T

        return Features("inception", digest, function, classify, batch=32)


def as_bytes(images: Tensor) -> Tensor:
    """Convert images (N, 1 or 3, H, W) in [-1, 1] to bytes (N, 3, H, W), as a picture file would hold them."""
    return three_channels(images).float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


PLUGIN = Inception()
