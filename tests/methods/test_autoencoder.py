"""Training autoencoders: what they learn, and the statistics that are measured at the end."""

import numpy as np
import torch

import regraft
from regraft.composites.decoded import gaussian_prior
from regraft.core import norms
from regraft.methods import autoencoder
from regraft.verbs.pretrain import pretrain
from support.pictures import save_arrays
from support.pretraining import SMALL, settings
from support.toys import toy_autoencoder


def test_autoencoder_learns_to_reconstruct_and_its_prior_fits(tmp_path):
    folder = tmp_path / "bars"
    arrays = np.zeros((40, 8, 8), np.uint8)
    for k, array in enumerate(arrays):
        array[:, k % 8] = 255
        array[k // 8] = 200
    save_arrays(folder, arrays)
    common = settings(
        "autoencoder", batch=16, ema_decay=0.9, backbone_settings=SMALL["autoencoder"] | {"code_dim": 16, "width": 16}
    )
    before = pretrain(folder, out=tmp_path / "before", **common | {"steps": 1})
    after = pretrain(folder, out=tmp_path / "after", **common | {"steps": 300})
    images = regraft.open_images(folder).decode((8, 8), 1).tensor()

    def error(gan):
        with torch.no_grad():
            return float((gan.autoencoder.decode(gan.autoencoder.encode(images)) - images).square().mean())

    assert error(after) < 0.35 * error(before)
    found = after.autoencoder.encode(images)
    assert torch.allclose(after.autoencoder.mean_code, found.mean(0), atol=1e-5)
    made = after.generator.codes(after.generator.latent.at(0, range(2000)))
    assert (made.mean(0) - found.mean(0)).abs().max() < 0.25


def test_statistics_and_prior_are_those_of_all_class_folders(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("columns", "rows"):
        arrays = rng.integers(0, 60, (64, 8, 8), dtype=np.uint8)
        arrays[:, :, ::2] += 195
        save_arrays(tmp_path / name, arrays if name == "columns" else arrays.transpose(0, 2, 1).copy())
    images = regraft.open_images(tmp_path).decode((8, 8), 1)
    monkeypatch.setattr(autoencoder, "PRIOR_IMAGES", 64)
    monkeypatch.setattr(autoencoder, "CALIBRATION_IMAGES", 48)
    monkeypatch.setattr(autoencoder, "CALIBRATION_BATCH", 16)
    trained = gaussian_prior(toy_autoencoder().requires_grad_(True))
    made = autoencoder.PLUGIN.finished({"generator": trained}, images, autoencoder.AutoencoderConfig()).autoencoder
    (norm,) = norms.batch_norms(made)
    seen = {}
    norm.register_forward_pre_hook(lambda norm, inputs: seen.update(x=inputs[0].transpose(0, 1).flatten(1)))
    codes = made.encode(images.tensor())
    made.decode(codes)
    apart = codes[:64].mean(0) - codes[64:].mean(0)
    assert (made.mean_code - codes.mean(0)).norm() < 0.2 * apart.norm()
    assert torch.allclose(norm.running_mean, seen["x"].mean(1), atol=0.1 * float(seen["x"].std(1).mean()))
    assert torch.allclose(norm.running_var, seen["x"].var(1), rtol=0.1)
