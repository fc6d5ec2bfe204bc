"""Small sources and images that every test can afford."""

import pathlib
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from regraft import discover
from regraft.build import build_fresh
from regraft.config import Objective, Recipe
from regraft.gan import GAN, Description, Provenance
from regraft.images import Images

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def toy_gan(backbone="dcgan", size=None, channels=1, n_classes=0, seed=0, autoencoder=False, **settings):
    """A random GAN of a backbone, frozen as loaded sources are; its smallest form unless settings say otherwise."""
    family = discover.plugin("backbones", backbone)
    smallest = dict(family.smallest)
    size = size or smallest.pop("size")
    smallest.pop("size", None)
    generator, critic = family.sized(size, channels, n_classes, **(settings or smallest))
    networks = []
    for role, config in (("generator", generator), ("critic", critic)):
        network = build_fresh(Description(backbone, role, config.model_dump(mode="json")), seed)
        # Statistics of a network that has seen data, so that batch and stored ones differ.
        for module in network.modules():
            if getattr(module, "running_mean", None) is not None:
                rng = torch.Generator().manual_seed(seed)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=rng) * 0.1)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=rng) + 0.5)
        networks.append(network.requires_grad_(False).eval())
    return GAN(
        *networks, autoencoder=toy_autoencoder(*networks[0].size[:1], channels) if autoencoder else None, objective=Objective(),
        recipe=Recipe(batch=4), provenance=Provenance(name="toy"),
    )  # fmt: skip


def toy_autoencoder(size=8, channels=1, seed=0, **settings):
    """A random plain autoencoder, frozen."""
    settings = {"code_dim": 6, "width": 4, "decoder_width": 4} | settings
    config = discover.plugin("backbones", "autoencoder").sized_autoencoder(size, channels, **settings)
    made = build_fresh(Description("autoencoder", "autoencoder", config.model_dump(mode="json")), seed)
    return made.requires_grad_(False).eval()


def save_program(module, path):
    """Write a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)


def toy_images(n=12, size=8, channels=1, seed=0, labels=None):
    """Random blobs."""
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=rng, dtype=torch.uint8)
    classes = tuple(str(i) for i in range(max(labels) + 1)) if labels else ()
    return Images(pixels, torch.tensor(labels) if labels else None, classes)


@pytest.fixture
def gan():
    return toy_gan()


@pytest.fixture
def photos(tmp_path):
    """A folder of 12 small PNGs with some structure."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        array = np.zeros((8, 8), np.uint8)
        array[2:6, 1 + k % 4 : 4 + k % 4] = rng.integers(120, 255)
        Image.fromarray(array).save(folder / f"{k:03d}.png")
    return folder


@pytest.fixture
def photos_by_class(tmp_path):
    """Folders ``bars`` and ``blobs`` of 12 small PNGs each."""
    folder = tmp_path / "by-class"
    rng = np.random.default_rng(0)
    for name in ("bars", "blobs"):
        (folder / name).mkdir(parents=True)
        for k in range(12):
            array = np.zeros((8, 8), np.uint8)
            rows = slice(0, 8) if name == "bars" else slice(2, 6)
            array[rows, 1 + k % 4 : 3 + k % 4] = rng.integers(120, 255)
            Image.fromarray(array).save(folder / name / f"{k:03d}.png")
    return folder


@pytest.fixture
def source_folder(tmp_path, gan):
    """The toy GAN in regraft's own format."""
    import regraft

    return regraft.convert(gan, tmp_path / "toy-source")


@pytest.fixture(scope="session")
def shared():
    """Real data beside the project; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data, which is not part of the project")
    return SHARED


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
