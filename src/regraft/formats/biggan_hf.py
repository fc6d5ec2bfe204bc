"""DeepMind's BigGAN-deep as HuggingFace's pytorch-pretrained-BigGAN stores it: ``pytorch_model.bin`` and ``config.json``.

Only generators were published.  Both names may carry a prefix, as the public downloads do (``biggan-deep-128-config.json``).
"""

import pathlib
from typing import Annotated, Any

import pydantic
import torch
from pydantic import Field
from torch.nn import functional

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.files.digests import sha256
from regraft.formats._state_dicts import mentions, the_state_dict
from regraft.formats._tensor_reader import TensorReader
from regraft.formats.base import Format, Network, Parsed, Probe, load_torch

WEIGHTS, SETTINGS = "pytorch_model.bin", "config.json"
Multiple = Annotated[int, Field(ge=1, le=64)]


class Settings(pydantic.BaseModel):
    """The keys of ``config.json`` that matter here; others are ignored."""

    output_dim: Annotated[int, Field(ge=8, le=4096)] = 128
    z_dim: Annotated[int, Field(ge=1, le=1 << 16)] = 128
    channel_width: Annotated[int, Field(ge=4, le=4096)] = 128
    layers: Annotated[list[tuple[bool, Multiple, Multiple]], Field(min_length=1, max_length=64)]
    attention_layer_position: Annotated[int, Field(ge=1)] = 8
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-4
    n_stats: Annotated[int, Field(ge=2, le=4096)] = 51


class HuggingFaceBigGAN(Format):
    """Public BigGAN-deep weights."""

    name = "pytorch-pretrained-BigGAN"
    order = 40

    def matches(self, probe: Probe) -> bool:
        """Whether the weights, or a folder's, have this code's names."""
        file = _weights(probe.path)
        return file is not None and mentions(file, "generator.gen_z.weight_orig", "embeddings.weight")

    def read(self, probe: Probe) -> Parsed:
        """Read the generator."""
        path = _weights(probe.path)
        if path is None:
            raise SourceError(f"{probe.path}: holds no {WEIGHTS}")
        config = path.with_name(path.name.removesuffix(WEIGHTS) + SETTINGS)
        settings = _settings(config)
        reader = HuggingFaceReader(the_state_dict(load_torch(path), str(path)), str(path))
        generator = _generator(reader, settings)
        name = path.name.removesuffix(WEIGHTS).strip("-_.") or path.parent.resolve().name
        notes = (
            "generator alone: no critic of these weights was published",
            "truncation below 1 mixes neighbouring rows of statistics with exchanged weights, as the authors' code does; "
            "interpolation: corrected in the generator's config undoes that",
            *(["spectral vectors v are missing (an old file) and were made anew from u"] if reader.lacks_v else []),
        )
        files = {f.name: sha256(f) for f in (path, config)}
        return Parsed(generator, None, Provenance(name=name, format=self.name, files=files, assumptions=notes))


class HuggingFaceReader(TensorReader):
    """Moves whole layers.

    Attributes:
        lacks_v: whether spectral vectors v had to be made anew from u.
    """

    lacks_v = False

    def layer(self, name: str, target: str, dims: int, bias: bool = True) -> None:
        """Move a layer with its spectral vectors."""
        weight = self.take(f"{name}.weight_orig", dims)
        u = self.take(f"{name}.weight_u", 1)
        matrix = weight.flatten(1)
        if f"{name}.weight_v" in self:
            v = self.take(f"{name}.weight_v", 1)
        elif len(u) == len(matrix):
            v, self.lacks_v = functional.normalize(u.float() @ matrix.float(), dim=0, eps=1e-12), True
        else:
            raise SourceError(f"{self.where}: {name}.weight_u has {len(u)} entries, must have {len(matrix)}")
        for leaf, stored, value in (("weight", "orig", weight), ("u", "u", u), ("v", "v", v)):
            self.put(f"{target}.{leaf}", value, f"{name}.weight_{stored}")
        if bias:
            self.move(f"{name}.bias", f"{target}.bias", 1)

    def first_layer(self, channels: int) -> None:
        """Move the first layer and reorder its outputs: from places, then channels (TensorFlow's order) to channels first."""
        self.layer("generator.gen_z", "entry.linear", 2)
        rows = 16 * channels
        for leaf in ("weight", "bias", "u"):
            value = self.tensors[f"entry.linear.{leaf}"]
            if len(value) != rows:
                raise SourceError(f"{self.where}: {leaf} of generator.gen_z has {len(value)} rows, must have 16 x {channels}")
            self.tensors[f"entry.linear.{leaf}"] = value.view(16, channels, -1).transpose(0, 1).reshape(value.shape)

    def statistics(self, name: str, target: str) -> None:
        """Move a table of statistics; its last row, truncation 1, is the ordinary one."""
        for theirs, ours in (("running_means", "mean"), ("running_vars", "var")):
            table = self.take(f"{name}.{theirs}", 2)
            self.put(f"{target}.lower_{ours}s", table[:-1].contiguous())
            self.put(f"{target}.running_{ours}", table[-1].clone())
        self.put(f"{target}.num_batches_tracked", torch.tensor(0))

    def block(self, name: str, target: str) -> int:
        """Move a residual block; returns the channels inside of it."""
        hidden = self.shape(f"{name}.conv_0.weight_orig", 4)[0]
        for number in range(4):
            self.layer(f"{name}.conv_{number}", f"{target}.convs.{number}", 4)
            for theirs, ours in (("scale", "gain"), ("offset", "bias")):
                self.layer(f"{name}.bn_{number}.{theirs}", f"{target}.norms.{number}.{ours}", 2, bias=False)
            self.statistics(f"{name}.bn_{number}", f"{target}.norms.{number}.norm")
        return hidden

    def attention(self, name: str, target: str) -> None:
        """Move self-attention."""
        for theirs, ours in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("o_conv", "o")):
            self.layer(f"{name}.snconv1x1_{theirs}", f"{target}.{ours}", 4, bias=False)
        self.put(f"{target}.gamma", self.number(f"{name}.gamma"))

    def last_layers(self) -> int:
        """Move the last norm and convolution; returns the convolution's channels, of which three are the image."""
        for leaf in ("weight", "bias"):
            self.move(f"generator.bn.{leaf}", f"exit.norm.{leaf}", 1)
        self.statistics("generator.bn", "exit.norm")
        rows = self.shape("generator.conv_to_rgb.weight_orig", 4)[0]
        self.layer("generator.conv_to_rgb", "exit.conv", 4)
        if rows < 3:
            raise SourceError(f"{self.where}: generator.conv_to_rgb gives {rows} channels, and images have 3")
        return rows


def _generator(reader: HuggingFaceReader, settings: Settings) -> Network:
    """Move all tensors to the blocks that the settings say."""
    width = settings.channel_width
    class_dim, n_classes = reader.shape("embeddings.weight", 2)
    reader.move("embeddings.weight", "entry.shared.weight", 2, layout=torch.t)
    reader.first_layer(settings.layers[0][1] * width)
    blocks: list[dict[str, Any]] = []
    number = 0
    for index, (up, inputs, outputs) in enumerate(settings.layers):
        if index == settings.attention_layer_position:
            reader.attention(f"generator.layers.{number}", f"blocks.{index - 1}.attention")
            blocks[-1]["attention"] = True
            number += 1
        hidden = reader.block(f"generator.layers.{number}", f"blocks.{index}")
        if outputs not in (inputs, inputs // 2):
            raise SourceError(
                f"{reader.where}: {SETTINGS} takes layer {index} from width {inputs} to {outputs}, must keep or halve it"
            )
        blocks.append(
            {"inputs": inputs * width, "hidden": hidden, "outputs": outputs * width, "resample": up, "attention": False}
        )
        number += 1
    rows = reader.last_layers()
    reader.ignore(r".*\.num_batches_tracked")
    _check_settings(reader, settings, blocks)
    config = {
        "latent_dim": settings.z_dim,
        "bound": 2.0,
        "n_classes": n_classes,
        "class_dim": class_dim,
        "blocks": blocks,
        "channels": 3,
        "rows": rows,
        "spectral": "stored",
        "statistics": settings.n_stats,
        "bn_eps": settings.eps,
        "sn_eps": settings.eps,
    }
    return reader.network("biggan_deep", "generator", config)


def _check_settings(reader: HuggingFaceReader, settings: Settings, blocks: list[dict[str, Any]]) -> None:
    """Refuse settings that contradict each other or the tensors."""
    where = reader.where
    side = 4 << sum(block["resample"] for block in blocks)
    if side != settings.output_dim:
        raise SourceError(f"{where}: {SETTINGS} says output_dim {settings.output_dim}, and its layers make {side} px")
    for index, (block, following) in enumerate(zip(blocks, blocks[1:], strict=False)):
        if block["outputs"] != following["inputs"]:
            raise SourceError(
                f"{where}: {SETTINGS} says that layer {index} gives {block['outputs']} channels, and the next one takes "
                f"{following['inputs']}"
            )
    rows = reader.tensors["exit.norm.lower_means"].shape[0] + 1
    if rows != settings.n_stats:
        raise SourceError(f"{where}: {SETTINGS} says n_stats {settings.n_stats}, and the file has {rows} rows")


def _weights(path: pathlib.Path) -> pathlib.Path | None:
    """The weights that a path means: a folder's, those beside a ``config.json``, or the file itself."""
    if path.is_dir():
        return min((f for f in path.iterdir() if f.name.endswith(WEIGHTS) and f.is_file()), default=None)
    if path.name.endswith(SETTINGS):
        beside = path.with_name(path.name.removesuffix(SETTINGS) + WEIGHTS)
        return beside if beside.is_file() else None
    return path if path.is_file() else None


def _settings(path: pathlib.Path) -> Settings:
    """Read ``config.json``.

    Raises:
        SourceError: if it is missing or cannot be understood.
    """
    try:
        if path.stat().st_size > 1 << 20:
            raise ValueError("larger than 1 MB")
        return Settings.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise SourceError(
            f"{path}: is missing; it belongs beside the weights and says how their layers are connected"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{path}: cannot be read as the settings of a BigGAN-deep: {reason}") from None


PLUGIN = HuggingFaceBigGAN()
