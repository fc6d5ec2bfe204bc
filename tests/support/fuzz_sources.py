"""Tiny valid files of every format, which the fuzz tests damage.

``WRITERS`` maps a format's name (its file in ``regraft/formats``) to functions that write one source of random weights into
an empty folder and return what to open.  A new format adds its writer here; ``test_fuzz_formats.py`` insists on it.
"""

import pathlib

import torch
import yaml

import regraft
from support import alae_files, biggan_files, nvlabs_sources, resnet_files, rosinality_files, transfergan_files
from support.tensorflow_writer import write_bundle, write_single
from support.torch_writer import legacy_bytes
from support.toys import toy_gan
from support.zoo_files import zoo_dcgan, zoo_run


def dcgan_tensors(role):
    """A small DCGAN under the names that an ``nn.Sequential`` gives."""
    network = getattr(toy_gan(size=16, width=4, latent_dim=6), role)
    made = {}
    for name, value in network.state_dict().items():
        _, index, part, leaf = name.split(".")
        made[f"main.{3 * int(index) + (part == 'norm')}.{leaf}"] = value
    return made


def write_native(folder):
    return regraft.convert(toy_gan(n_classes=3), folder / "source")


def write_card(folder):
    torch.save(dcgan_tensors("generator"), folder / "g.bin")
    (folder / "d.bin").write_bytes(legacy_bytes({"netD": dcgan_tensors("critic"), "epoch": 3}))
    card = {
        "regraft_card": 1,
        "name": "fuzz",
        "generator": "g.bin",
        "critic": {"file": "d.bin", "key": "netD", "slope": 0.2},
        "latent": {"distribution": "normal"},
        "size": [16, 16],
        "licence": "MIT",
    }
    (folder / "source.yaml").write_text(yaml.safe_dump(card))
    return folder


def write_state_dict(folder):
    torch.save(dcgan_tensors("generator"), folder / "netG.pth")
    torch.save(dcgan_tensors("critic"), folder / "netD.pth")
    return folder / "netG.pth"


def write_legacy(folder):
    nested = {"netG": dcgan_tensors("generator"), "netD": dcgan_tensors("critic"), "step": 7}
    (folder / "both.pth").write_bytes(legacy_bytes(nested))
    return folder / "both.pth"


def write_safetensors(folder):
    from safetensors.torch import save_file

    save_file(dcgan_tensors("generator"), folder / "generator.safetensors")
    save_file(dcgan_tensors("critic"), folder / "discriminator.safetensors")
    return folder / "generator.safetensors"


def write_alae(folder):
    return alae_files.written(folder / "model_final.pth", alae_files.models(levels=2, channels=1))


def write_biggan(folder):
    biggan_files.rng.manual_seed(0)
    generator = biggan_files.generator_file((8, 8, 4), attention=(0,))
    return biggan_files.save(folder / "run", G_ema=generator, D=biggan_files.critic_file((3, 8, 8, 8), (1, 0, 0)))


def write_biggan_deep(folder):
    biggan_files.rng.manual_seed(0)
    generator, critic = biggan_files.deep_files((8, 8), (4, 8))
    return biggan_files.save(folder / "run", G_ema=generator, D=critic)


def write_biggan_hf(folder):
    biggan_files.rng.manual_seed(0)
    tensors = biggan_files.hugging_face(folder / "deep", n_stats=3)
    (folder / "deep" / "pytorch_model.bin").write_bytes(legacy_bytes(tensors))
    return folder / "deep"


def write_gan_zoo(folder):
    keys = {"hair": {"order": 1, "values": ["a", "b", "c"]}, "hat": {"order": 0, "values": ["yes", "no"]}}
    generator, critic = resnet_files.zoo_progan([6, 4], 4 + 5, decisions=1 + 5)
    settings = {"alpha": 0.3, "categoryVectorDim": 5, "attribKeysOrder": keys}
    return zoo_run(folder, settings, generator, critic, averaged=generator)


def write_gan_zoo_dcgan(folder):
    generator, critic = zoo_dcgan(seed=4)  # of 1 no unit is alive at the first latents
    return zoo_run(folder, {"lossCriterion": "DCGAN"}, generator, critic)


def write_mimicry(folder):
    generator = resnet_files.mimicry_generator([8, 8, 8, 8], n_classes=3, sn="torch", attention=8)
    critic = resnet_files.mimicry_critic([8] * 4, [True, True, False, False], "l5", n_classes=3, attention=8)
    return resnet_files.pair(folder, generator, critic)


def write_studiogan(folder):
    generator = resnet_files.studio_generator([8] * 4, 3, sn="torch", code=4 + 3, shared=(5, 4), attention_after=1)
    critic = resnet_files.studio_critic([8] * 4, [True, True, False, False], n_classes=5, attention_after=0)
    resnet_files.studio_run(folder, generator, critic)
    (folder / "run.yaml").write_text(yaml.safe_dump({"MODEL": {"z_prior": "uniform"}, "LOSS": {"adv_loss": "wasserstein"}}))
    return folder


def write_nvlabs(folder):
    generator = nvlabs_sources.generator2(c_dim=3, channels=[4, 3, 2])
    critic = nvlabs_sources.critic2(c_dim=3, cmap_dim=4, mapping_layers=2, channels=[4, 3, 2])
    critic_options = nvlabs_sources.critic_options(critic, mapping_kwargs={"num_layers": 2})
    return nvlabs_sources.written(folder, generator, critic, d_options=critic_options)


def write_stylegan3(folder):
    g = toy_gan("stylegan3", size=16, channels=3, width=16, top_width=3, latent_dim=4, layers=3).generator
    mapping = {"num_layers": g.config.mapping_layers}
    options = nvlabs_sources.options_of(g, mapping_kwargs=mapping, num_layers=3)
    return nvlabs_sources.written(folder, g, None, options, protocol=4)


def write_nvlabs_tf(folder):
    generator = nvlabs_sources.generator2(channels=[4, 3, 2])
    critic = nvlabs_sources.critic2(mapping_layers=0, mapping_lr=0.1, mbstd_group_size=2, channels=[4, 3, 2])
    return nvlabs_sources.written_tensorflow(folder, generator, critic)


def write_rosinality(folder):
    torch.save(rosinality_files.training_file(), folder / "550000.pt")
    return folder / "550000.pt"


def write_transfergan(folder):
    return write_bundle(folder / "wgan-gp.model", transfergan_files.variables(), shards=2, per_block=4, snappy=True)


def write_transfergan_single(folder):
    return write_single(folder / "wgan-gp.model", transfergan_files.variables(classes=0, channels=1))


WRITERS = {
    "alae": [write_alae],
    "biggan": [write_biggan, write_biggan_deep],
    "biggan_hf": [write_biggan_hf],
    "card": [write_card],
    "gan_zoo": [write_gan_zoo, write_gan_zoo_dcgan],
    "mimicry": [write_mimicry],
    "native": [write_native],
    "nvlabs": [write_nvlabs, write_stylegan3],
    "nvlabs_tf": [write_nvlabs_tf],
    "rosinality": [write_rosinality],
    "state_dict": [write_state_dict, write_legacy, write_safetensors],
    "studiogan": [write_studiogan],
    "transfergan": [write_transfergan, write_transfergan_single],
}


def templates(folder):
    """Every writer's source once, as (format, folder, what to open in it)."""
    made = []
    for form, writers in sorted(WRITERS.items()):
        for writer in writers:
            own = folder / writer.__name__
            own.mkdir(parents=True)
            made.append((form, own, pathlib.Path(writer(own)).relative_to(own)))
    return made
