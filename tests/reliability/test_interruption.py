"""A run that is killed, at any moment, goes on to the very adapter of an unbroken run."""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import regraft
from support.once import made_once
from support.pictures import save_arrays
from support.plugins import find_plugin
from support.toys import toy_gan

ARGUMENTS = ["--method", "minegan", "--set", "mining_steps=40", "--set", "finetuning_steps=60", "--batch", "4"]
ARGUMENTS += ["--evaluate-every", "10", "--checkpoint-every", "7", "--accumulate", "2", "--seed", "3"]


def start(photos, sources, out, *arguments):
    command = [sys.executable, "-m", "regraft", "adapt", str(photos), "--out", str(out), *(arguments or ARGUMENTS)]
    for source in [sources] if isinstance(sources, str | pathlib.Path) else sources:
        command += ["--source", str(source)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread())


def resume(out):
    command = [sys.executable, "-m", "regraft", "adapt", "--resume", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread())


def one_thread():
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def steps_done(out):
    try:
        lines = (pathlib.Path(out) / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"]
    except (OSError, IndexError, ValueError):
        return -1


def result(out):
    out = pathlib.Path(out)
    config = yaml.safe_load((out / "config.yaml").read_text())
    config.pop("out")
    return (out / "adapter_model.safetensors").read_bytes(), (out / "adapter_config.json").read_text(), config


def save_noise(folder, shape, n=12):
    """Random pictures."""
    save_arrays(folder, np.random.default_rng(0).integers(0, 255, (n, *shape), np.uint8))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Images, a source, and what an unbroken run makes of them."""

    def make(folder):
        save_noise(folder / "photos", (8, 8))
        regraft.convert(toy_gan(), folder / "source")
        process = start(folder / "photos", folder / "source", folder / "run")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err

    folder = made_once(tmp_path_factory, "unbroken", make)
    return folder / "photos", folder / "source", result(folder / "run")


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(unbroken, tmp_path, seed):
    """SIGKILL at two random moments: among them the phase border and evaluations, which come every tenth step."""
    photos, source, wanted = unbroken
    random.seed(seed)
    out = tmp_path / "run"
    process = start(photos, source, out)
    kills = 0
    for moment in sorted(random.sample(range(2, 95), 2)):
        while process.poll() is None and steps_done(out) < moment:
            time.sleep(0.005)
        time.sleep(random.random() * 0.05)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=60)
        process = resume(out) if (out / "state" / "run.json").exists() else start(photos, source, out)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert kills, "the run was over before it could be killed"
    assert result(out) == wanted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_130(unbroken, tmp_path, number):
    photos, source, wanted = unbroken
    out = tmp_path / "run"
    process = start(photos, source, out)
    while process.poll() is None and steps_done(out) < 20:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the state is saved" in err
    assert "Traceback" not in err
    process = resume(out)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert result(out) == wanted


def grey_28():
    """A DCGAN of the public MNIST networks' size: 7x7 where a regular one of 16 pixels has 4x4."""
    from regraft.core.build import build_fresh
    from regraft.core.gan import GAN
    from regraft.core.networks import Description

    configs = find_plugin("backbones", "dcgan").default_configs(16, 1, width=4, latent_dim=8)
    settings = [config.model_dump(mode="json") for config in configs]
    settings[0]["layers"][0]["kernel"] = settings[1]["layers"][-1]["kernel"] = (7, 7)
    settings[1]["size"] = (28, 28)
    generator, critic = (
        build_fresh(Description("dcgan", role, s), 0) for role, s in zip(("generator", "critic"), settings, strict=True)
    )
    assert generator.size == (28, 28)
    return GAN(generator, critic)


@pytest.fixture(scope="module")
def four_families(tmp_path_factory):
    """Colour photographs and sources of four families and sizes."""
    folder = tmp_path_factory.mktemp("families")
    save_noise(folder / "photos", (32, 32, 3))
    made = {
        "dcgan": grey_28(),
        "sngan": toy_gan("sngan", size=32, channels=3, width=16, latent_dim=6),
        "biggan": toy_gan("biggan", size=64, channels=3, n_classes=3, width=2, latent_dim=20, class_dim=5),
        "stylegan2": toy_gan("stylegan2", size=32, channels=3, width=4, top_width=6, latent_dim=8, mapping_layers=2),
    }
    return folder / "photos", [regraft.convert(gan, folder / name) for name, gan in made.items()]


def test_several_families_at_once_killed(four_families, tmp_path):
    """Grey 28, colour 32, classes at 64 and styles at 32 pixels under one critic; killed in both phases."""
    photos, sources = four_families
    arguments = ["--method", "minegan", "--set", "mining_steps=8", "--set", "finetuning_steps=8", "--batch", "2", "--seed", "1"]
    arguments += [
        "--set",
        "critic=1",
        "--checkpoint-every",
        "3",
        "--evaluate-every",
        "0",
        "--held-out",
        "0",
        "--set",
        "supersamples=40",
    ]
    process = start(photos, sources, tmp_path / "whole", *arguments)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    out = tmp_path / "broken"
    process = start(photos, sources, out, *arguments)
    for moment in (4, 11):
        while process.poll() is None and steps_done(out) < moment:
            time.sleep(0.005)
        assert process.poll() is None, "the run was over before it could be killed"
        process.kill()
        process.communicate(timeout=60)
        process = resume(out)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert result(out) == result(tmp_path / "whole")
    assert regraft.load(out).sample(4, 0).isfinite().all()


def test_encoding_that_is_killed_goes_on(tmp_path):
    """1,000 images: what was finished before SIGKILL is not encoded again, and a third time nothing is read or written."""
    from regraft.data.opening import open_images
    from regraft.verbs import encode

    source = regraft.convert(toy_gan(autoencoder=True), tmp_path / "source")
    save_noise(tmp_path / "photos", (64, 64), 1000)
    whole = encode.encode(source, tmp_path / "photos", tmp_path / "whole.safetensors")
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "regraft", "encode", str(source), str(tmp_path / "photos")]
    command += ["--out", str(folder / "codes.safetensors")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread())
    while process.poll() is None and not list(folder.glob("codes.parts/*.safetensors")):
        time.sleep(0.001)
    assert process.poll() is None, "it was over before it could be killed"
    process.kill()
    process.communicate(timeout=60)
    assert not (folder / "codes.safetensors").exists()
    again = encode.encode(source, tmp_path / "photos", folder / "codes.safetensors")
    assert again.reused >= encode.CHUNK
    assert again.computed + again.reused == 1000
    for name, values in load_file(tmp_path / "whole.safetensors").items():
        assert torch.equal(load_file(folder / "codes.safetensors")[name], values), name
    assert (again.codes.names, again.codes.record) == (whole.codes.names, whole.codes.record)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}

    def fails():
        raise AssertionError("an image is read a third time")

    listed = open_images(tmp_path / "photos")
    unread = dataclasses.replace(listed, items=tuple(dataclasses.replace(item, read=fails) for item in listed.items))
    third = encode.encode(source, unread, folder / "codes.safetensors")
    assert (third.computed, third.reused) == (0, 1000)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before
