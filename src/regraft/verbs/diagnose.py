"""The verb ``diagnose``: what Mind2Mind rests on, measured.

With encoder c1, decoder g1, A = g1 c1, target law P_T, source law P_S, and Q the law of generated codes,

    (i)   W(P_T, g1 Q) <= a W(c1 P_T, Q) + E_T d(x, A x)
    (ii)  W(P_T, g1 Q) <= a W(c1 P_T, Q) + (1 + a b) W(P_S, P_T) + E_S d(x, A x)

where W is the 1-Wasserstein distance, d the Euclidean one, a and b Lipschitz constants of g1 and c1.  (Triangle inequality
through A P_T, then through A P_S.)  The first term is what training lowers, the last what the autoencoder leaves.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.composites.decoded import DecodedGenerator
from regraft.core.errors import ConfigError, DataError
from regraft.core.gan import GAN
from regraft.core.networks import Autoencoder, evaluating
from regraft.core.randomness import generator_at, subset
from regraft.data.codes import CANNOT_RECONSTRUCT, encode_images, unexplained_variance
from regraft.data.images import ImageSet
from regraft.data.opening import open_images
from regraft.verbs._open import open_gan

PROBES = 32
POWER_STEPS = 8
SINKHORN_STEPS = 200


def diagnose(
    source: GAN | str | pathlib.Path,
    images: str | pathlib.Path | ImageSet,
    *,
    source_images: str | pathlib.Path | ImageSet | None = None,
    sources: Sequence[GAN | str | pathlib.Path] | None = None,
    n: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure an autoencoder's round trips and the terms of Mind2Mind's bound.

    Args:
        source: a GAN with an autoencoder, or a run of mind2mind.
        images: target images.
        source_images: images that the autoencoder was trained on, for the second form of the bound.
        sources: the sources of a run, if they are not where it expects them.
        n: images and codes to measure on; of more images that many are drawn.  Distances between samples of this size carry
            the error of so few.
        seed: of what is drawn.

    Returns:
        Numbers by name, and sentences for what is out of the ordinary under ``warnings``.
    """
    gan = open_gan(source, list(sources) if sources else None, "cpu")
    generator = gan.generator
    autoencoder = generator.autoencoder if isinstance(generator, DecodedGenerator) else gan.require("autoencoder", "diagnose")
    target = _decoded(images, autoencoder, n, seed)
    facts: dict[str, Any] = {"n": len(target), "code_dim": int(torch.Size(autoencoder.code_shape).numel())}
    with evaluating(autoencoder, generator):
        found = encode_images(autoencoder, target)
        made = _generated(gan, autoencoder, found, len(target), seed)
        facts |= _round_trips(autoencoder, target, found, made)
        a = lipschitz(lambda c: autoencoder.decode(c.view(len(c), *autoencoder.code_shape)), made[:PROBES], seed)
        gap = transport(found, made)
        facts |= {"decoder_lipschitz": a, "code_distance": gap, "code_term": a * gap}
        facts["bound_by_target"] = facts["code_term"] + facts["reconstruction_distance"]
        if source_images is not None:
            theirs = _decoded(source_images, autoencoder, n, seed)
            b = lipschitz(lambda x: autoencoder.encode(x).flatten(1), _some(target, PROBES, seed), seed)
            fewer = min(len(theirs), len(target))
            between = transport(_some(theirs, fewer, seed).flatten(1), _some(target, fewer, seed).flatten(1))
            left = float((_through(autoencoder, theirs) - theirs).flatten(1).norm(dim=1).mean())
            facts |= {"encoder_lipschitz": b, "source_target_distance": between, "source_reconstruction_distance": left}
            facts["bound_by_source"] = facts["code_term"] + (1 + a * b) * between + left
    facts["warnings"] = _warnings(facts, found, made)
    return facts


def _decoded(images: str | pathlib.Path | ImageSet, autoencoder: Autoencoder, n: int, seed: int) -> Tensor:
    listed = images if isinstance(images, ImageSet) else open_images(images)
    if len(listed) < 8:
        raise DataError(f"{listed.where}: {len(listed)} images; at least 8 are needed to measure anything")
    return listed.some(n, seed).decode(autoencoder.size, autoencoder.channels).tensor()


def _some(images: Tensor, n: int, seed: int) -> Tensor:
    return images[subset(len(images), n, seed)]


@torch.no_grad()
def _generated(gan: GAN, autoencoder: Autoencoder, found: Tensor, n: int, seed: int) -> Tensor:
    """Codes of the generator: its own, or those of its images where it does not make codes."""
    if isinstance(gan.generator, DecodedGenerator):
        y = torch.arange(n) % gan.generator.n_classes if gan.generator.n_classes else None
        return gan.generator.codes(gan.generator.latent.at(seed, range(n)), y)
    if gan.generator.styles is not None:
        w = gan.generator.styles.mapping(gan.generator.latent.at(seed, range(n)), None)[:, 0]
        if tuple(w.shape[1:]) == tuple(autoencoder.code_shape):
            return w
    if tuple(gan.generator.size) != tuple(autoencoder.size):
        raise ConfigError("the generator makes images of another size than the autoencoder takes")
    return encode_images(autoencoder, gan.sample(n, seed))


@torch.no_grad()
def _through(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    parts = [autoencoder.decode(autoencoder.encode(part)) for part in torch.split(images, 64)]
    return torch.cat(parts)


@torch.no_grad()
def _round_trips(autoencoder: Autoencoder, target: Tensor, found: Tensor, made: Tensor) -> dict[str, Any]:
    """Image side g1 c1 = id on the target; latent side c1 g1 = id on generated codes and on codes of the target."""
    reconstructed = _through(autoencoder, target)
    error = (reconstructed - target).flatten(1)
    facts = {
        "reconstruction_mse": float(error.square().mean()),
        "reconstruction_distance": float(error.norm(dim=1).mean()),
        "reconstruction_unexplained": unexplained_variance(target, reconstructed),
    }
    for name, some in (("generated", made), ("target", found)):
        images = [autoencoder.decode(part.view(len(part), *autoencoder.code_shape)) for part in torch.split(some, 64)]
        again = encode_images(autoencoder, torch.cat(images))
        facts[f"latent_correlation_{name}"] = correlation(some, again)
        facts[f"latent_error_{name}"] = float((again - some).norm(dim=1).mean() / (some - some.mean(0)).norm(dim=1).mean())
    return facts


def correlation(a: Tensor, b: Tensor) -> float:
    """Correlation of all numbers of two sets of codes, each number's mean taken out."""
    x, y = (a - a.mean(0)).flatten().double(), (b - b.mean(0)).flatten().double()
    return float((x @ y) / (x.norm() * y.norm()).clamp_min(1e-12))


def lipschitz(function: Callable[[Tensor], Tensor], points: Tensor, seed: int) -> float:
    """Largest stretch of a function near some points: the norm of its Jacobian there, by power iteration.

    A lower bound of its Lipschitz constant, which is no number that can be measured.
    """
    x = points.detach()
    v = torch.randn(x.shape, generator=generator_at(seed, "lipschitz"))
    stretch = torch.zeros(len(x))
    for _ in range(POWER_STEPS):
        v = v / v.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (v.dim() - 1))
        _, pushed = torch.autograd.functional.jvp(function, x, v)  # type: ignore[no-untyped-call]
        stretch = pushed.flatten(1).norm(dim=1)
        _, v = torch.autograd.functional.vjp(function, x, pushed)  # type: ignore[no-untyped-call]
    return float(stretch.max())


def transport(a: Tensor, b: Tensor) -> float:
    """1-Wasserstein distance of two samples of as many rows, by an entropic plan: a cost that is reached, so never too low."""
    n = min(len(a), len(b))
    cost = torch.cdist(a[:n].double(), b[:n].double())
    sharpness = float(cost.mean().clamp_min(1e-12)) / 100
    kernel, f, g = -cost / sharpness, torch.zeros(n, dtype=torch.double), torch.zeros(n, dtype=torch.double)
    for _ in range(SINKHORN_STEPS):
        f = -torch.logsumexp(kernel + g, dim=1)
        g = -torch.logsumexp(kernel + f[:, None], dim=0)
    plan = torch.exp(kernel + f[:, None] + g) / n
    # Columns are exact, rows nearly; the little that rows lack or have too much travels at the mean cost.
    slack = (plan.sum(1) - 1 / n).abs().sum() / 2
    return float((plan * cost).sum() + slack * cost.mean())


def _warnings(facts: dict[str, Any], found: Tensor, made: Tensor) -> list[str]:
    said = []
    if facts["latent_correlation_generated"] < 0.9:
        said.append(
            "encoding decoded codes does not give them back (correlation below 0.9): "
            "the game on codes is not the game on images"
        )
    if facts["reconstruction_unexplained"] >= 1:
        said.append(f"{CANNOT_RECONSTRUCT}; it may know nothing but its own domain")
    size, usual = float(made.norm(dim=1).mean()), float(found.norm(dim=1).mean())
    if not 0.5 < size / max(usual, 1e-12) < 2:
        said.append(
            f"generated codes are of length {size:.3g}, those of the images {usual:.3g}: decoding may leave what it knows"
        )
    if float(found.std(0).mean()) < 1e-3 * max(usual, 1e-12):
        said.append("the codes of the images hardly differ: the encoder has collapsed")
    return said
