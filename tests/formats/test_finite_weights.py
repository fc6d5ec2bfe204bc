"""Weights that are NaN or infinite: each format names the tensor as its file does; inspecting can allow them."""

import json

import pytest
import torch

import regraft
from regraft.core.errors import SourceError
from support import biggan_files, resnet_files, rosinality_files
from support.commands import call
from support.home_made import convs, deconvs, settle


def home_made(folder):
    generator = settle(deconvs(8, 6))
    return folder / "netG.pth", {"netG": generator.state_dict(), "netD": convs(3, 4, 6).state_dict()}


SPOILT = {
    "generator": ("netG", "6.weight", "6.weight of the generator (1 of 288 numbers)"),
    "statistics": ("netG", "1.running_var", "1.running_var of the generator (1 of 8 numbers)"),
    "critic": ("netD", "2.weight", "2.weight of the critic (1 of 384 numbers)"),
}


def spoil(tensor, value):
    tensor.data.view(-1)[0] = value


@pytest.mark.parametrize("part", SPOILT)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_tensor_and_how_many_are_named(tmp_path, part, value):
    key, name, said = SPOILT[part]
    path, content = home_made(tmp_path)
    spoil(content[key][name], value)
    torch.save(content, path)
    with pytest.raises(SourceError) as refused:
        regraft.load(path)
    assert said in str(refused.value)
    assert f"regraft inspect {path} --allow-nonfinite" in str(refused.value)
    gan = regraft.load(path, allow_nonfinite=True)
    assert said in gan.provenance.assumptions[0]
    assert said in regraft.inspect(path, allow_nonfinite=True)["assumptions"][0]


@pytest.mark.parametrize("kind", ["rosinality", "mimicry", "StudioGAN", "BigGAN"])
def test_formats_name_tensors_as_their_files_do(tmp_path, kind):
    if kind == "rosinality":
        tensors, name, path = rosinality_files.generator_state(), "convs.1.conv.weight", tmp_path / "1.pt"
        torch.save({"g_ema": tensors}, path)
    elif kind == "mimicry":
        tensors, name = resnet_files.mimicry_generator([8, 8, 8, 8]), "block3.c1.weight"
        path = tmp_path / "netG_1_steps.pth"
    elif kind == "StudioGAN":
        tensors, name = resnet_files.studio_generator([8, 8, 8, 8], 6, sn="torch", code=4), "blocks.1.0.conv2d1.weight_orig"
        path = tmp_path / "model=G-best-weights-step=1.pth"
    else:
        tensors, name, path = biggan_files.deep_files()[0], "blocks.1.0.conv2.weight", tmp_path / "G.pth"
    spoil(tensors[name], float("nan"))
    torch.save({"g_ema": tensors} if kind == "rosinality" else dict(tensors), path)
    with pytest.raises(SourceError, match=rf"infinite are: {name} of the generator \(1 of"):
        regraft.load(path)


def test_command_line(tmp_path, capsys):
    path, content = home_made(tmp_path)
    spoil(content["netG"]["6.weight"], float("nan"))
    torch.save(content, path)
    code, _, err = call(capsys, "inspect", path)
    assert code == 2
    assert "6.weight of the generator (1 of 288 numbers)" in err
    code, out, err = call(capsys, "inspect", path, "--allow-nonfinite", "--json")
    assert code == 0, err
    assert json.loads(out)["assumptions"][0].startswith("Not all weights are finite")
