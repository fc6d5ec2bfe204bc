"""Source cards: what they say is not inferred, and their mistakes are named."""

import pytest
import torch
import yaml

import regraft
from regraft.core.errors import ConfigError, SourceError
from regraft.core.gan import tensor_digest
from support.home_made import convs, deconvs, settle


class TestCards:
    def card(self, folder, **fields):
        (folder / "source.yaml").write_text(yaml.safe_dump({"regraft_card": 1, "generator": "g.bin", **fields}))
        return folder / "source.yaml"

    @pytest.fixture
    def folder(self, tmp_path):
        """A folder with a generator and a critic that no card describes yet."""
        torch.save(settle(deconvs(8, 6)).state_dict(), tmp_path / "g.bin")
        torch.save(convs(3, 4, 6).state_dict(), tmp_path / "d.bin")
        return tmp_path

    def test_card_and_folder_are_the_same_source(self, folder):
        card = self.card(folder, critic="d.bin", name="mine", licence="CC0", objective="wgan-gp", recipe={"batch": 7})
        a, b = regraft.load(card), regraft.load(folder)
        assert tensor_digest(a.generator) == tensor_digest(b.generator)
        assert (a.provenance.name, a.provenance.licence) == ("mine", "CC0")
        assert a.objective.loss == "wgan"
        assert a.recipe.batch == 7
        assert a.critic is not None

    def test_what_the_card_says_is_not_inferred(self, folder):
        card = self.card(
            folder, generator={"file": "g.bin", "activation": "silu", "output": "none"}, latent={"distribution": "sphere"}
        )
        gan = regraft.load(card)
        assert gan.generator.config.layers[0].activation == "silu"
        assert gan.generator.config.layers[-1].activation == "none"
        assert gan.generator.latent.distribution == "sphere"
        assert not any("assumed" in said or "stored in training" in said for said in gan.provenance.assumptions)

    def test_unit_range(self, folder):
        signed = regraft.load(
            self.card(folder, generator={"file": "g.bin", "output": "sigmoid"}, latent={"distribution": "normal"})
        )
        unit = regraft.load(self.card(folder, image_range="unit", latent={"distribution": "normal"}))
        z = torch.randn(2, 10)
        assert torch.allclose(unit.generator(z), signed.generator(z) * 2 - 1, atol=1e-6)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"critc": "d.bin"}, "no setting called critc; did you mean critic"),
            ({"generator": {"activation": "relu"}}, "generator.file is missing"),
            ({"generator": "other.bin"}, "there is no such file beside it"),
            ({"size": 48}, "no usual strides and paddings"),
            ({"generator": {"file": "g.bin", "key": "netG"}}, "has no key netG"),
            ({"latent": {"distribution": "cauchy"}}, "distribution"),
        ],
    )
    def test_mistakes_are_named(self, folder, fields, message):
        with pytest.raises((SourceError, ConfigError), match=message):
            regraft.load(self.card(folder, **fields))
