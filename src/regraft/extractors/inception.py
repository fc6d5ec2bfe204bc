"""The Inception network of December 2015 that published FID, KID and IS values are computed with.

It is the TorchScript translation of the TensorFlow graph, distributed with StyleGAN2-ADA.  The program resizes images to 299
pixels by TensorFlow's bilinear rule (without smoothing) itself and takes bytes, so images of any size are handed over as bytes,
grey ones three times.  A TorchScript file is a program: only this one, known by its digest, is run.

Source: Heusel et al. 2017 (FID); Karras et al. 2020, "Training generative adversarial networks with limited data" (the file).
"""

import pathlib

import torch
from torch import Tensor

from regraft.core.errors import SourceError
from regraft.core.gan import GAN
from regraft.extractors import _cache
from regraft.extractors.base import Extractor, Features

URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"


class Inception(Extractor):
    """The field's Inception network."""

    summary = "Inception of 2015, 2048 features: the one that FID is named after (a file of 96 MB, fetched once or named)"
    costly = True

    def make(self, weights: pathlib.Path | None, source: GAN | None) -> Features:
        """Check the file's digest, then load it."""
        path = weights if weights is not None else _cache.fetched(URL, SHA256, "--extractor inception:FILE")
        digest = _cache.sha256_of(path)
        if digest != SHA256:
            raise SourceError(
                f"{path}: is not the Inception file that FID is defined by (sha256 {digest}, and it must be {SHA256}); for "
                "another network use the extractor network with a card"
            )
        program = _cache.scripted(path)
        output = dict(program.named_parameters()) | dict(program.named_buffers())
        head = output.get("output.weight")

        def function(images: Tensor) -> Tensor:
            found: Tensor = program(as_bytes(images), return_features=True)
            return found.flatten(1)

        def classify(images: Tensor) -> tuple[Tensor, Tensor]:
            # The published inception score leaves the last layer's bias out.
            features = function(images)
            return features, features @ head.to(features).T  # type: ignore[union-attr]

        known = head is not None and head.dim() == 2
        return Features("inception", digest, function, classify if known else None, batch=32)


def as_bytes(images: Tensor) -> Tensor:
    """Images (N, 1 or 3, H, W) in [-1, 1] as (N, 3, H, W) of bytes, as a picture file would hold them."""
    coloured = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    return coloured.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


PLUGIN = Inception()
