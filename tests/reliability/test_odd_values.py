"""Values that are sound in their container and odd where they stand: each file is refused by name, or read without harm."""

import contextlib
import json
import struct
import time
import zipfile

import numpy as np
import pytest
import torch

import regraft
from regraft.core.errors import SourceError
from support import alae_files, biggan_files, resnet_files, rosinality_files, transfergan_files
from support.tensorflow_writer import write_bundle, write_single
from support.zoo_files import zoo_run

LONG = "9" * 5000
"""More digits than Python turns into a number."""


def refused(path, message=None):
    with pytest.raises(SourceError, match=message) as caught:
        regraft.load(path)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("name", [f"to_rgbs.{LONG}.bias", f"style.{LONG}.weight", "to_rgbs.٣٣.bias"])
def test_rosinality_numbers(tmp_path, name):
    torch.save({"g_ema": rosinality_files.generator_state() | {name: torch.zeros(3)}}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt")


def test_rosinality_training_arguments(tmp_path):
    said = {"r1": 10**400, "d_reg_every": 16, "path_regularize": 2, "g_reg_every": 4, "mixing": 0.9, "lr": 0.002, "batch": 8}
    family = rosinality_files.generator_state()
    torch.save({"g_ema": family, "args": rosinality_files.arguments(**said)}, tmp_path / "x.pt")
    assert regraft.load(tmp_path / "x.pt").objective.penalty_weight < 1e9


def test_complex_weights_are_refused(tmp_path):
    state = rosinality_files.generator_state()
    state["conv1.conv.weight"] = state["conv1.conv.weight"].to(torch.complex64)
    torch.save({"g_ema": state}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "complex")
    biggan_files.rng.manual_seed(0)
    big = biggan_files.generator_file((8, 8, 4), stats="mybn")
    for name in ("blocks.0.0.conv1.weight", "blocks.0.0.bn1.bn.accumulation_counter"):
        refused(biggan_files.save(tmp_path / name, G=big | {name: big[name].to(torch.complex64)}), "complex")
    made = alae_files.models(levels=2)
    made["mapping_fl_s"]["map_blocks.0.fc.weight"] = torch.zeros(6, 6, dtype=torch.complex64)
    refused(alae_files.written(tmp_path / "x.pth", made), "complex")


def test_alae_filters_of_nothing(tmp_path):
    made = alae_files.models(levels=2)
    made["generator_s"]["decode_block.0.blur.weight"] = torch.zeros(0, 1, 3, 3)
    refused(alae_files.written(tmp_path / "x.pth", made), "blur")


def test_mimicry_steps_that_are_no_numbers(tmp_path):
    generator = resnet_files.mimicry_generator([8] * 4)
    critic = resnet_files.mimicry_critic([8] * 4, [True, True, False, False], "l5")
    path = resnet_files.pair(tmp_path, generator, critic)
    for kind, step in (("G", torch.zeros(3)), ("D", torch.ones(2))):
        (found,) = tmp_path.rglob(f"net{kind}*.pth")
        torch.save(torch.load(found, weights_only=True) | {"global_step": step}, found)
    assert regraft.load(path).critic is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 10**400}, None),
        ({"leakyReluLeak": -(10**400)}, None),
        ({"lossCriterion": "x" * 100_000}, "lossCriterion"),
        ({"lossCriterion": torch.zeros(3)}, "lossCriterion"),
        ({"lossCriterion": ["WGANGP"]}, "lossCriterion"),
        ({"categoryVectorDim": 3, "attribKeysOrder": torch.zeros(3)}, "attribKeysOrder"),
        ({"categoryVectorDim": 3, "attribKeysOrder": {"a": torch.zeros(3)}}, "attribKeysOrder"),
        ({"categoryVectorDim": 3, "attribKeysOrder": {"a": {"order": torch.zeros(3), "values": "abc"}}}, "attribKeysOrder"),
        ({"categoryVectorDim": 3, "attribKeysOrder": ["abc"]}, "attribKeysOrder"),
        ({"categoryVectorDim": 10**400}, "categoryVectorDim"),
    ],
)
def test_gan_zoo_settings(tmp_path, settings, message):
    generator, critic = resnet_files.zoo_progan([6, 4], 5)
    path = zoo_run(tmp_path, settings, generator, critic)
    if message is None:
        assert regraft.load(path).sample(2).isfinite().all()
    else:
        refused(path, message)


@pytest.mark.parametrize("name", [f"{LONG}.weight", "1.²", "٣.weight"])
def test_safetensors_numbers(tmp_path, name):
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(tmp_path / "x.safetensors")


@pytest.mark.parametrize("shape", [(3,), (6,), (2, 3), ()])
def test_spectral_vectors_that_do_not_fit(tmp_path, shape):
    layer = {"0.weight_orig": torch.zeros(4, 6), "0.weight_u": torch.zeros(shape), "0.weight_v": torch.zeros(6)}
    torch.save(layer, tmp_path / "netG.pth")
    refused(tmp_path / "netG.pth")
    torch.save(layer | {"0.weight_orig": torch.zeros(()), "0.weight_u": torch.zeros(4)}, tmp_path / "netG.pth")
    refused(tmp_path / "netG.pth")


def test_whole_numbers_for_weights(tmp_path):
    generator = resnet_files.mimicry_generator([8] * 4, sn="torch")
    del generator["block2.c1.weight_v"]
    generator["block2.c1.weight_orig"] = (generator["block2.c1.weight_orig"] * 100).long()
    assert regraft.load(resnet_files.pair(tmp_path, generator)).sample(2).isfinite().all()
    biggan_files.rng.manual_seed(0)
    tensors = biggan_files.hugging_face(tmp_path / "hf", drop=("weight_v",))
    tensors["generator.gen_z.weight_orig"] = (tensors["generator.gen_z.weight_orig"] * 100).long()
    torch.save(dict(tensors), tmp_path / "hf" / "pytorch_model.bin")
    assert regraft.load(tmp_path / "hf").sample(2).isfinite().all()


@pytest.mark.parametrize("write", [write_bundle, write_single])
def test_tensorflow_shapes_of_nothing(tmp_path, write):
    class Shaped(np.ndarray):
        shape = (0, *[(1 << 31) - 1] * 7)

    made = {"Generator.Input/Generator.Input.W": np.zeros(0, "f4").view(Shaped)}
    refused(write(tmp_path / "x", transfergan_files.variables() | made))


def test_yaml_that_refers_to_itself_many_times(tmp_path):
    """8^20 words when written out."""
    resnet_files.studio_run(
        tmp_path, resnet_files.studio_generator([8] * 4, 6), resnet_files.studio_critic([8] * 4, [True, True, False, False])
    )
    lists = "a: &a [x, x, x, x, x, x, x, x]\n"
    for k in range(19):
        lists += f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 8)}]\n"
    for where in ("LOSS: {adv_loss: *t}\n", "MODEL: {g_act_fn: *t}\n", "MODEL: {z_prior: *t}\n", "MODEL: {apply_g_sn: *t}\n"):
        (tmp_path / "run.yaml").write_text(lists + where)
        begin = time.process_time()
        with contextlib.suppress(SourceError):
            regraft.load(tmp_path)
        assert time.process_time() - begin < 5


def test_compressed_members_that_are_damaged(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(range(256)) * 100)
    content = bytearray(path.read_bytes())
    content[45:200] = b"\xff" * 155
    path.write_bytes(bytes(content))
    refused(path)
