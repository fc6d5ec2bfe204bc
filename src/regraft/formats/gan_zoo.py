"""Checkpoints of pytorch_GAN_zoo: progressive GANs and DCGANs, with their settings as an object of the repository's class.

The object is read as a bag of plain values: torch's safe unpickler fills a stand-in of that name, and no code of the file runs.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regraft.core.config import Objective
from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.containers import pickle_head
from regraft.files.digests import sha256
from regraft.formats._layers import LayerReader
from regraft.formats._state_dicts import described, state_dict_under
from regraft.formats.base import BaseConfig, Format, Network, Parsed, Probe, load_torch, optional_critic

MARK = b"models.utils.config\nBaseConfig\n"
DATASETS = {
    "celebaHQ_s6_i80000-6196db68": "CelebA-HQ",
    "celebaHQ16_december_s7_i96000-9c72988c": "CelebA-HQ",
    "celebaCropped_s5_i83000-2b0acc76": "CelebA",
    "testDTD_s5_i96000-04efa39f": "DTD",
    "DCGAN_fashionGen-1d67302": "FashionGen",
}
MOST_ATTRIBUTES = 1 << 16
LARGEST = 1e6
"""Settings beyond it, and what is no number, count as absent."""
WGAN = Objective(loss="wgan", penalty="gradient", penalty_weight=10.0, drift_weight=1e-3, critic_steps=1)


class GanZoo(Format):
    """pytorch_GAN_zoo's ProGAN and DCGAN."""

    name = "pytorch_GAN_zoo"
    order = 40

    def matches(self, probe: Probe) -> bool:
        """Whether the pickle names the repository's class of settings."""
        return probe.is_torch_file and MARK in pickle_head(probe.path)

    def read(self, probe: Probe) -> Parsed:
        """Read averaged generator and critic."""
        path = probe.path
        content: Any = load_torch(path)
        if not isinstance(content, dict) or not isinstance(content.get("config"), BaseConfig):
            raise SourceError(f"{path}: names pytorch_GAN_zoo's settings, and holds none under config")
        settings = Settings(vars(content["config"]), str(path))
        notes: list[str] = []
        which = "avgG" if state_dict_under(content.get("avgG")) is not None else "netG"
        if which == "netG":
            notes.append("the generator is not the averaged one, which the file does not hold")
        generator = _tensors(content.get(which))
        if generator is None:
            raise SourceError(f"{path}: holds neither avgG nor netG")
        progressive = "groupScale0.0.weight" in generator
        g_network = (_progan_generator if progressive else _dcgan_generator)(generator, settings)
        side = 8 << sum(name.startswith("main.convTranspose") for name in generator)

        def read_critic() -> Network | None:
            if content.get("netD") is None:
                return None
            critic = _tensors(content["netD"])
            if critic is None:
                raise SourceError(f"netD is no state dict (names to tensors), but {described(content['netD'])}")
            return _progan_critic(critic, settings) if progressive else _dcgan_critic(critic, settings, side)

        d_network = optional_critic(read_critic, notes)
        if len(settings.attributes()) > 1:
            notes.append("a class is one value of each labelled attribute, the last one varying fastest")
        provenance = Provenance(
            name=path.stem,
            format=self.name,
            files={path.name: sha256(path)},
            dataset=DATASETS.get(path.stem),
            assumptions=(*notes, *settings.notes),
        )
        return Parsed(g_network, d_network, provenance, objective=_objective(settings, progressive))


class Settings:
    """The settings object of a file; values of an unexpected kind count as absent.

    Attributes:
        notes: what had to be assumed.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where
        self.notes: list[str] = []

    def number(self, name: str, default: float) -> float:
        """A setting that is a finite number; a default is noted."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            if f"{name} " not in " ".join(self.notes):
                self.notes.append(f"{name} assumed to be {default}")
            return default
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A setting that is true or false."""
        value = self.values.get(name)
        return value if isinstance(value, bool) else default

    @property
    def loss(self) -> str:
        """Name of the loss, which decides the generator's last activation.

        Raises:
            SourceError: if it is none of the repository's.
        """
        value = self.values.get("lossCriterion")
        known = ("WGANGP", "Logistic", "MSE", "DCGAN")
        if not isinstance(value, str) or value not in known:
            shown = repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"
            raise SourceError(f"{self.where}: lossCriterion is {shown}; regraft knows {', '.join(known)}")
        return value

    @property
    def output(self) -> str:
        """Activation of the images."""
        return "tanh" if self.loss in ("MSE", "DCGAN") else "none"

    def attributes(self) -> tuple[int, ...]:
        """Number of values of each labelled attribute, in the order of the class vector.

        Raises:
            SourceError: if they do not add up to the class vector.
        """
        size = self.values.get("categoryVectorDim")
        if not isinstance(size, int) or size <= 0:
            return ()
        if size > MOST_ATTRIBUTES:
            raise SourceError(f"{self.where}: categoryVectorDim is more than {MOST_ATTRIBUTES}")
        keys = self.values.get("attribKeysOrder")
        if keys is None or keys == {}:
            return (size,)
        places = sorted(_attribute(value) for value in keys.values()) if isinstance(keys, dict) else []
        counts = tuple(count for _, count in places)
        if sum(counts) != size or min(counts, default=0) < 1:
            raise SourceError(f"{self.where}: attribKeysOrder does not add up to categoryVectorDim {size}")
        return counts


def _attribute(value: object) -> tuple[int, int]:
    """Place of an attribute in the class vector and how many values it has; (0, 0) if it is no attribute."""
    order, values = (value.get(key) for key in ("order", "values")) if isinstance(value, dict) else (None, None)
    if not isinstance(order, int) or not isinstance(values, list | tuple | dict):
        return 0, 0
    return order, len(values)


def _tensors(value: object) -> dict[str, Tensor] | None:
    """A state dict without the ``module.`` that older files have before ``weight`` and ``bias``."""
    tensors = state_dict_under(value)
    if tensors is None:
        return None
    return {re.sub(r"\.module\.(weight|bias)$", r".\1", name): tensor for name, tensor in tensors.items()}


def _objective(settings: Settings, progressive: bool) -> Objective | None:
    """The game that the networks were trained by; None means the DCGAN backbone's own."""
    if settings.loss == "WGANGP":
        return WGAN
    return Objective() if progressive or settings.loss == "Logistic" else None


def _shared(settings: Settings, widths: list[int], channels: int) -> dict[str, Any]:
    """Settings that a progressive generator and its critic have in common."""
    return {
        "widths": widths,
        "channels": channels,
        "slope": settings.number("leakyReluLeak", 0.2),
        "alpha": settings.number("alpha", 0.0) if len(widths) > 1 else 0.0,
        "equalised": settings.flag("equalizedlR", True),
        "attributes": settings.attributes(),
    }


def _pair(reader: LayerReader, source: str, target: str) -> None:
    """Move the two convolutions of a scale."""
    for k in (0, 1):
        reader.layer(f"{source}.{k}", f"{target}.conv{k + 1}")


def _progan_generator(tensors: dict[str, Tensor], settings: Settings) -> Network:
    """Read the generator of a progressive GAN."""
    reader = LayerReader(tensors, f"{settings.where}: generator")
    if not settings.flag("perChannelNormalization", True):
        raise SourceError(f"{settings.where}: perChannelNormalization is off, with which the repository's own generator fails")
    scales = len(reader.numbered("scaleLayers.{}.", least=0, most=10))
    inputs = reader.weight_shape("formatLayer")[1]
    widths = [reader.weight_shape("groupScale0.0")[0], *(reader.weight_shape(f"scaleLayers.{i}.1")[0] for i in range(scales))]
    config = _shared(settings, widths, reader.weight_shape(f"toRGBLayers.{scales}")[0])
    dim = inputs - sum(config["attributes"])
    if dim < 1:
        raise SourceError(f"{settings.where}: the generator takes {inputs} numbers, all of them classes")
    reader.layer("formatLayer", "start.format")
    reader.layer("groupScale0.0", "start.conv")
    for i in range(scales):
        _pair(reader, f"scaleLayers.{i}", f"scales.{i}" if i < scales - 1 else "end.scale")
    _colours(reader, "toRGBLayers", scales, config["alpha"], "end")
    config |= {"latent": {"dim": dim}, "output": settings.output}
    return reader.network("progan", "generator", config)


def _progan_critic(tensors: dict[str, Tensor], settings: Settings) -> Network:
    """Read the critic of a progressive GAN."""
    reader = LayerReader(tensors, f"{settings.where}: critic")
    scales = len(reader.numbered("scaleLayers.{}.", least=0, most=10))
    width, inputs = reader.weight_shape("groupScaleZero.0")[:2]
    widths = [width, *(reader.weight_shape(f"scaleLayers.{i}.0")[0] for i in range(scales))]
    config = _shared(settings, widths, reader.weight_shape(f"fromRGBLayers.{scales}")[1])
    for i in range(scales):
        _pair(reader, f"scaleLayers.{i}", f"scales.{scales - 2 - i}" if i < scales - 1 else "start.scale")
    _colours(reader, "fromRGBLayers", scales, config["alpha"], "start")
    reader.layer("groupScaleZero.0", "end.conv")
    reader.layer("groupScaleZero.1", "end.dense")
    reader.layer("decisionLayer", "end.decision")
    config["stddev"] = inputs == width + 1
    return reader.network("progan", "critic", config)


def _colours(reader: LayerReader, name: str, scales: int, alpha: float, target: str) -> None:
    """Move the layers between features and image that are in use; those of scales that have faded away are ignored."""
    reader.layer(f"{name}.{scales}", f"{target}.colour")
    if alpha > 0:
        reader.layer(f"{name}.{scales - 1}", f"{target}.older")
    reader.ignore(*(rf"{name}\.{scale}\.(weight|bias)" for scale in range(scales)))


HALF: dict[str, Any] = {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1), "bias": False}


def _dcgan_generator(tensors: dict[str, Tensor], settings: Settings) -> Network:
    """Read the generator of a DCGAN."""
    reader = LayerReader(tensors, f"{settings.where}: generator")
    inputs, width = reader.weight_shape("formatLayer")[:2]
    attributes = settings.attributes()
    hidden = {"kind": "deconv", "norm": "batch", "activation": "relu"}
    layers: list[dict[str, Any]] = [hidden | {"inputs": inputs, "outputs": width, "kernel": (4, 4), "bias": False}]
    reader.layer("formatLayer", "layers.0.weights")
    reader.batch_norm("main.batchNorm0", "layers.0.norm")
    depth = sum(name.startswith("main.convTranspose") for name in tensors)
    for i in range(1, depth + 1):
        a, b = reader.weight_shape(f"main.convTranspose{i}")[:2]
        layers.append(hidden | HALF | {"inputs": a, "outputs": b})
        reader.layer(f"main.convTranspose{i}", f"layers.{i}.weights")
        reader.batch_norm(f"main.batchNorm{i}", f"layers.{i}.norm")
    a, b = reader.weight_shape("main.outlayer")[:2]
    layers.append(HALF | {"kind": "deconv", "inputs": a, "outputs": b, "activation": settings.output})
    reader.layer("main.outlayer", f"layers.{depth + 1}.weights")
    config: dict[str, Any] = {"latent": {"dim": inputs - sum(attributes)}, "layers": layers}
    if attributes:
        table = _class_table(settings)
        config |= {"n_classes": len(table), "conditioning": "concat", "class_dim": table.shape[1]}
        reader.put("classes", table)
    return reader.network("dcgan", "generator", config)


def _dcgan_critic(tensors: dict[str, Tensor], settings: Settings, side: int) -> Network:
    """Read the critic of a DCGAN for images of side ``side``."""
    reader = LayerReader(tensors, f"{settings.where}: critic")
    depth = sum(name.startswith("main.convTranspose") for name in tensors) - 1
    layers: list[dict[str, Any]] = []
    for i in range(max(depth, 0), -1, -1):
        k = len(layers)
        b, a = reader.weight_shape(f"main.convTranspose{i}")[:2]
        layer = HALF | {"kind": "conv", "inputs": a, "outputs": b, "activation": "leaky_relu"}
        layers.append(layer | {"norm": "batch"} if k else layer)
        reader.layer(f"main.convTranspose{i}", f"layers.{k}.weights")
        if k:
            reader.batch_norm(f"main.batchNorm{i}", f"layers.{k}.norm")
    channels = layers[0]["inputs"]
    rows, width = reader.weight_shape("decisionLayer")[:2]
    layers.append({"kind": "conv", "inputs": width, "outputs": 1, "kernel": (4, 4), "bias": False})
    config: dict[str, Any] = {"channels": channels, "size": (side, side), "layers": layers}
    decision = reader.take("decisionLayer.weight")
    reader.put(f"layers.{len(layers) - 1}.weights.weight", decision[:1].contiguous())
    if settings.attributes():
        table = _class_table(settings)
        if rows != 1 + table.shape[1]:
            raise SourceError(f"{reader.where}: decisionLayer has {rows} outputs, must have {1 + table.shape[1]}")
        config |= {"n_classes": len(table), "head": "auxiliary"}
        # A class's logit is the sum of its attribute values' logits.
        reader.put("classifier.weight", table @ decision[1:].flatten(1))
        reader.put("classifier.bias", torch.zeros(len(table)))
    elif rows != 1:
        raise SourceError(f"{reader.where}: decisionLayer has {rows} outputs, and the settings name no classes")
    return reader.network("dcgan", "critic", config)


def _class_table(settings: Settings) -> Tensor:
    """One-hot vectors of all attributes for every class."""
    counts = settings.attributes()
    if math.prod(counts) > 4096:
        raise SourceError(f"{settings.where}: attributes combine to {math.prod(counts)} classes, more than 4096")
    rows = torch.cartesian_prod(*[torch.arange(n) for n in counts]).reshape(-1, len(counts))
    return torch.cat([torch.nn.functional.one_hot(rows[:, k], n) for k, n in enumerate(counts)], dim=1).float()


PLUGIN = GanZoo()
