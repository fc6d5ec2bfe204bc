"""The verb ``diagnose``: measure what Mind2Mind rests on.

With encoder c1, decoder g1, A = g1 c1, target law P_T, source law P_S, and Q the law of generated codes,

    (i)   W(P_T, g1 Q) <= a W(c1 P_T, Q) + E_T d(x, A x)
    (ii)  W(P_T, g1 Q) <= a W(c1 P_T, Q) + (1 + a b) W(P_S, P_T) + E_S d(x, A x)

where W is the 1-Wasserstein distance, d the Euclidean one, a and b Lipschitz constants of g1 and c1.  (Triangle inequality
through A P_T, then through A P_S.)  Training lowers the first term; the last is the error of the autoencoder.
"""

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
from regraft.verbs._arguments import ImagesArgument, Source, list_images
from regraft.verbs._open import open_gan

PROBES = 32
POWER_STEPS = 8
SINKHORN_STEPS = 200

# torch gives these no types.
JacobianProduct = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], tuple[Tensor, Tensor]]
_jvp: JacobianProduct = torch.autograd.functional.jvp
_vjp: JacobianProduct = torch.autograd.functional.vjp


def diagnose(
    source: Source,
    images: ImagesArgument,
    *,
    source_images: ImagesArgument | None = None,
    sources: Sequence[Source] | None = None,
    n: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure an autoencoder's round trips and the terms of Mind2Mind's bound.

    Args:
        source: a GAN with an autoencoder, or a run of mind2mind.
        images: target images.
        source_images: images that the autoencoder was trained on, for form (ii) of the bound.
        sources: the sources of a run, if they are not where it expects them.
        n: number of images and codes to measure on; of more images that many are drawn.  Distances between samples of this
            size are not exact.
        seed: seed of everything that is drawn.

    Returns:
        Numbers by name; under ``notes`` what was left out of the images, and under ``warnings`` a sentence for each number that
        is out of the ordinary.

    Raises:
        MissingCapability: if the source has no autoencoder.
        DataError: if there are fewer than 8 images.
        SourceError, AdapterError: if the source cannot be opened.
    """
    gan = open_gan(source, sources, "cpu")
    generator = gan.generator
    autoencoder = generator.autoencoder if isinstance(generator, DecodedGenerator) else gan.require("autoencoder", "diagnose")
    notes: list[str] = []
    target = _decode(images, autoencoder, n, seed, notes)
    facts: dict[str, Any] = {"notes": notes, "n": len(target), "code_dim": int(torch.Size(autoencoder.code_shape).numel())}
    with evaluating(autoencoder, generator):
        target_codes = encode_images(autoencoder, target)
        generated_codes = _generate_codes(gan, autoencoder, len(target), seed)
        facts |= _round_trips(autoencoder, target, target_codes, generated_codes)
        a = lipschitz(lambda c: autoencoder.decode(c.view(len(c), *autoencoder.code_shape)), generated_codes[:PROBES], seed)
        code_distance = transport(target_codes, generated_codes)
        facts |= {"decoder_lipschitz": a, "code_distance": code_distance, "code_term": a * code_distance}
        facts["bound_by_target"] = facts["code_term"] + facts["reconstruction_distance"]
        if source_images is not None:
            facts |= _source_terms(autoencoder, target, _decode(source_images, autoencoder, n, seed, notes), seed)
            source_term = (1 + a * facts["encoder_lipschitz"]) * facts["source_target_distance"]
            facts["bound_by_source"] = facts["code_term"] + source_term + facts["source_reconstruction_distance"]
    facts["warnings"] = _warn(facts, target_codes, generated_codes)
    return facts


def _decode(images: ImagesArgument, autoencoder: Autoencoder, n: int, seed: int, notes: list[str]) -> Tensor:
    """Decode at most ``n`` images at the autoencoder's size; add what was left out to the notes."""
    listed = list_images(images, notes.append)
    if len(listed) < 8:
        raise DataError(f"{listed.where}: {len(listed)} images; at least 8 are needed to measure anything")
    return listed.some(n, seed).decode(autoencoder.size, autoencoder.channels).tensor()


def _draw(images: Tensor, n: int, seed: int) -> Tensor:
    """Draw at most ``n`` images."""
    return images[subset(len(images), n, seed)]


@torch.no_grad()
def _generate_codes(gan: GAN, autoencoder: Autoencoder, n: int, seed: int) -> Tensor:
    """Generate ``n`` codes: those that the generator makes on its way to images, or else the codes of its images."""
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
def _reconstruct(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    parts = [autoencoder.decode(autoencoder.encode(part)) for part in torch.split(images, 64)]
    return torch.cat(parts)


@torch.no_grad()
def _round_trips(autoencoder: Autoencoder, target: Tensor, target_codes: Tensor, generated_codes: Tensor) -> dict[str, float]:
    """Measure how far g1 c1 is from the identity on images, and c1 g1 from the identity on generated and target codes."""
    reconstructed = _reconstruct(autoencoder, target)
    error = (reconstructed - target).flatten(1)
    facts = {
        "reconstruction_mse": float(error.square().mean()),
        "reconstruction_distance": float(error.norm(dim=1).mean()),
        "reconstruction_unexplained": unexplained_variance(target, reconstructed),
    }
    for name, codes in (("generated", generated_codes), ("target", target_codes)):
        images = [autoencoder.decode(part.view(len(part), *autoencoder.code_shape)) for part in torch.split(codes, 64)]
        again = encode_images(autoencoder, torch.cat(images))
        facts[f"latent_correlation_{name}"] = correlation(codes, again)
        facts[f"latent_error_{name}"] = float((again - codes).norm(dim=1).mean() / (codes - codes.mean(0)).norm(dim=1).mean())
    return facts


def _source_terms(autoencoder: Autoencoder, target: Tensor, source: Tensor, seed: int) -> dict[str, float]:
    """Measure b, W(P_S, P_T) and E_S d(x, A x) of form (ii) of the bound."""
    n = min(len(source), len(target))
    error = (_reconstruct(autoencoder, source) - source).flatten(1)
    return {
        "encoder_lipschitz": lipschitz(lambda x: autoencoder.encode(x).flatten(1), _draw(target, PROBES, seed), seed),
        "source_target_distance": transport(_draw(source, n, seed).flatten(1), _draw(target, n, seed).flatten(1)),
        "source_reconstruction_distance": float(error.norm(dim=1).mean()),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Return the correlation of two sets of codes (N, D), each centred, over all their numbers."""
    x, y = (a - a.mean(0)).flatten().double(), (b - b.mean(0)).flatten().double()
    return float((x @ y) / (x.norm() * y.norm()).clamp_min(1e-12))


def lipschitz(function: Callable[[Tensor], Tensor], points: Tensor, seed: int) -> float:
    """Return the largest norm of a function's Jacobian at some points, by power iteration.

    It is a lower bound of the function's Lipschitz constant, which itself cannot be measured.
    """
    x = points.detach()
    v = torch.randn(x.shape, generator=generator_at(seed, "lipschitz"))
    stretch = torch.zeros(len(x))
    for _ in range(POWER_STEPS):
        v = v / v.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (v.dim() - 1))
        _, pushed = _jvp(function, x, v)
        stretch = pushed.flatten(1).norm(dim=1)
        _, v = _vjp(function, x, pushed)
    return float(stretch.max())


def transport(a: Tensor, b: Tensor) -> float:
    """Return the 1-Wasserstein distance of two samples (N, D), as the cost of an entropic plan, which is never too low."""
    n = min(len(a), len(b))
    cost = torch.cdist(a[:n].double(), b[:n].double())
    sharpness = float(cost.mean().clamp_min(1e-12)) / 100
    kernel, f, g = -cost / sharpness, torch.zeros(n, dtype=torch.double), torch.zeros(n, dtype=torch.double)
    for _ in range(SINKHORN_STEPS):
        f = -torch.logsumexp(kernel + g, dim=1)
        g = -torch.logsumexp(kernel + f[:, None], dim=0)
    plan = torch.exp(kernel + f[:, None] + g) / n
    # Columns sum exactly to 1 / n, rows nearly; the difference travels at the mean cost.
    slack = (plan.sum(1) - 1 / n).abs().sum() / 2
    return float((plan * cost).sum() + slack * cost.mean())


def _warn(facts: dict[str, Any], target_codes: Tensor, generated_codes: Tensor) -> list[str]:
    """Return a sentence for each number that is out of the ordinary."""
    warnings = []
    if facts["latent_correlation_generated"] < 0.9:
        warnings.append(
            "encoding decoded codes does not give them back (correlation below 0.9): "
            "the game on codes is not the game on images"
        )
    if facts["reconstruction_unexplained"] >= 1:
        warnings.append(f"{CANNOT_RECONSTRUCT}; it may know nothing but its own domain")
    generated_length, target_length = float(generated_codes.norm(dim=1).mean()), float(target_codes.norm(dim=1).mean())
    if not 0.5 < generated_length / max(target_length, 1e-12) < 2:
        warnings.append(
            f"generated codes are of length {generated_length:.3g}, those of the images {target_length:.3g}: "
            "decoding may leave what it knows"
        )
    if float(target_codes.std(0).mean()) < 1e-3 * max(target_length, 1e-12):
        warnings.append("the codes of the images hardly differ: the encoder has collapsed")
    return warnings
