"""DeepMind's BigGAN-deep as HuggingFace's pytorch-pretrained-BigGAN stores it: ``pytorch_model.bin`` and ``config.json``.

Only generators were published.  Both names may carry a prefix, as the public downloads do (``biggan-deep-128-config.json``).
"""

import pathlib
from typing import Annotated, Any

import pydantic
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from regraft.core.errors import SourceError
from regraft.core.gan import Provenance
from regraft.core.networks import Description
from regraft.formats._tensors import Taker, mentions, state_dict
from regraft.formats.base import Format, Network, Parsed, Probe, load_torch, sha256

WEIGHTS, SETTINGS = "pytorch_model.bin", "config.json"
Multiple = Annotated[int, Field(ge=1, le=64)]


class Settings(pydantic.BaseModel):
    """What ``config.json`` says; other keys are left aside."""

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
        source = Taker(state_dict(load_torch(path), str(path)), str(path))
        move = _Move(source)
        generator = move.generator(settings)
        name = path.name.removesuffix(WEIGHTS).strip("-_.") or path.parent.resolve().name
        notes = (
            "generator alone: no critic of these weights was published",
            "truncation below 1 mixes neighbouring rows of statistics with exchanged weights, as the authors' code does; "
            "interpolation: corrected in the generator's config undoes that",
            *(["spectral vectors v are missing (an old file) and were made anew from u"] if move.made_v else []),
        )
        files = {f.name: sha256(f) for f in (path, config)}
        return Parsed(generator, None, Provenance(name=name, format=self.name, files=files, assumptions=notes))


class _Move:
    """Tensors on their way from the file to the network."""

    def __init__(self, source: Taker) -> None:
        self.source = source
        self.made: dict[str, Tensor] = {}
        self.made_v = False

    def generator(self, settings: Settings) -> Network:
        """Move everything."""
        source, width = self.source, settings.channel_width
        class_dim, n_classes = source.shape("embeddings.weight", 2)
        self.made["entry.shared.weight"] = source.take("embeddings.weight", 2).T.contiguous()
        self.layer("generator.gen_z", "entry.linear", 2)
        self._first_layer(settings.layers[0][1] * width)
        blocks: list[dict[str, Any]] = []
        number = 0
        for index, (up, inputs, outputs) in enumerate(settings.layers):
            if index == settings.attention_layer_position:
                self.attention(f"generator.layers.{number}", f"blocks.{index - 1}.attention")
                blocks[-1]["attention"] = True
                number += 1
            name, target = f"generator.layers.{number}", f"blocks.{index}"
            hidden = source.shape(f"{name}.conv_0.weight_orig", 4)[0]
            for part in range(4):
                self.layer(f"{name}.conv_{part}", f"{target}.convs.{part}", 4)
                for theirs, ours in (("scale", "gain"), ("offset", "bias")):
                    self.layer(f"{name}.bn_{part}.{theirs}", f"{target}.norms.{part}.{ours}", 2, bias=False)
                self.statistics(f"{name}.bn_{part}", f"{target}.norms.{part}.norm")
            if outputs not in (inputs, inputs // 2):
                raise SourceError(f"{source.where}: layer {index} keeps or halves its {inputs} widths, not to {outputs}")
            blocks.append(
                {"inputs": inputs * width, "hidden": hidden, "outputs": outputs * width, "resample": up, "attention": False}
            )
            number += 1
        rows = self._exit()
        source.drop(r".*\.num_batches_tracked")
        source.finish()
        self._check(settings, blocks)
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
        return Network(Description("biggan_deep", "generator", config), self.made)

    def _exit(self) -> int:
        for leaf in ("weight", "bias"):
            self.made[f"exit.norm.{leaf}"] = self.source.take(f"generator.bn.{leaf}", 1)
        self.statistics("generator.bn", "exit.norm")
        rows = self.source.shape("generator.conv_to_rgb.weight_orig", 4)[0]
        self.layer("generator.conv_to_rgb", "exit.conv", 4)
        return rows

    def _check(self, settings: Settings, blocks: list[dict[str, Any]]) -> None:
        where = self.source.where
        side = 4 << sum(b["resample"] for b in blocks)
        if side != settings.output_dim:
            raise SourceError(f"{where}: {SETTINGS} says output_dim {settings.output_dim}, and its layers make {side} px")
        for index, (a, b) in enumerate(zip(blocks, blocks[1:], strict=False)):
            if a["outputs"] != b["inputs"]:
                raise SourceError(f"{where}: layer {index} gives {a['outputs']} channels, and the next takes {b['inputs']}")
        rows = self.made["exit.norm.lower_means"].shape[0] + 1
        if rows != settings.n_stats:
            raise SourceError(f"{where}: {SETTINGS} says n_stats {settings.n_stats}, and the file has {rows} rows")
        if self.made["exit.conv.weight"].shape[0] < 3:
            raise SourceError(f"{where}: generator.conv_to_rgb gives fewer than 3 channels")

    def _first_layer(self, channels: int) -> None:
        """The file's outputs run over places, then channels (TensorFlow's order); the network's over channels first."""
        weight = self.made["entry.linear.weight"]
        if weight.shape[0] != 16 * channels or self.made["entry.linear.u"].shape[0] != 16 * channels:
            raise SourceError(f"{self.source.where}: gen_z has {weight.shape[0]} outputs, must have 16 x {channels}")
        for name in ("weight", "bias", "u"):
            value = self.made[f"entry.linear.{name}"]
            if len(value) != 16 * channels:
                raise SourceError(f"{self.source.where}: gen_z's {name} has {len(value)} rows, must have {16 * channels}")
            self.made[f"entry.linear.{name}"] = value.view(16, channels, -1).transpose(0, 1).reshape(value.shape)

    def layer(self, name: str, target: str, dims: int, bias: bool = True) -> None:
        """Move a layer with its spectral vectors."""
        weight = self.source.take(f"{name}.weight_orig", dims)
        u = self.source.take(f"{name}.weight_u", 1)
        matrix = weight.flatten(1)
        if f"{name}.weight_v" in self.source:
            v = self.source.take(f"{name}.weight_v", 1)
        elif len(u) == len(matrix):
            v, self.made_v = functional.normalize(u.float() @ matrix.float(), dim=0, eps=1e-12), True
        else:
            raise SourceError(f"{self.source.where}: {name}.weight_u has {len(u)} entries, must have {len(matrix)}")
        self.made |= {f"{target}.weight": weight, f"{target}.u": u, f"{target}.v": v}
        if bias:
            self.made[f"{target}.bias"] = self.source.take(f"{name}.bias", 1)

    def statistics(self, name: str, target: str) -> None:
        """Move a table of statistics; its last row, truncation 1, is the ordinary one."""
        for theirs, ours in (("running_means", "mean"), ("running_vars", "var")):
            table = self.source.take(f"{name}.{theirs}", 2)
            self.made[f"{target}.lower_{ours}s"] = table[:-1].contiguous()
            self.made[f"{target}.running_{ours}"] = table[-1].clone()
        self.made[f"{target}.num_batches_tracked"] = torch.tensor(0)

    def attention(self, name: str, target: str) -> None:
        """Move self-attention."""
        for theirs, ours in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("o_conv", "o")):
            self.layer(f"{name}.snconv1x1_{theirs}", f"{target}.{ours}", 4, bias=False)
        self.made[f"{target}.gamma"] = self.source.number(f"{name}.gamma")


def _weights(path: pathlib.Path) -> pathlib.Path | None:
    """The weights that a path means: a folder's, those beside a ``config.json``, or the file itself."""
    if path.is_dir():
        found = sorted(f for f in path.iterdir() if f.name.endswith(WEIGHTS) and f.is_file())
        return found[0] if found else None
    if path.name.endswith(SETTINGS):
        beside = path.with_name(path.name.removesuffix(SETTINGS) + WEIGHTS)
        return beside if beside.is_file() else None
    return path if path.is_file() else None


def _settings(path: pathlib.Path) -> Settings:
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
