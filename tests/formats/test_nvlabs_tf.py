"""NVlabs pickles of TensorFlow networks."""

import pytest
import torch

import regraft
from regraft.core.errors import SourceError
from support.nvlabs_files import dumped, tf_network
from support.nvlabs_sources import critic2, generator2, written_tensorflow


class TestTensorFlow:
    """Pickles of TensorFlow, made by turning the converter's rules round."""

    @pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
    @pytest.mark.parametrize("classes", [0, 3])
    @pytest.mark.parametrize("protocol", [3, 4])
    def test_round_trip(self, tmp_path, architecture, classes, protocol):
        g = generator2(architecture=architecture, c_dim=classes)
        d = critic2(
            architecture=architecture,
            c_dim=classes,
            cmap_dim=7 if classes else 0,
            mapping_layers=2 if classes else 0,
            mapping_lr=0.1,
            mbstd_group_size=2,
        )
        gan = regraft.load(written_tensorflow(tmp_path, g, d, protocol=protocol))
        assert gan.generator.describe() == g.describe()
        assert gan.critic.describe() == d.describe()
        for network, loaded in ((g, gan.generator), (d, gan.critic)):
            for name, value in network.state_dict().items():
                assert torch.allclose(loaded.state_dict()[name], value, atol=1e-6), name
        assert "not verified" in gan.provenance.assumptions[0]
        assert gan.provenance.format == "NVlabs TensorFlow pickle"

    def test_refusals(self, tmp_path):
        g, d = generator2(), critic2(mapping_layers=0, mapping_lr=0.1, mbstd_group_size=2)
        with pytest.raises(SourceError, match="the variable surprise has no place"):
            regraft.load(written_tensorflow(tmp_path, g, d, surprise=torch.zeros(1)))
        with pytest.raises(SourceError, match="a ProGAN of TensorFlow, which is not read"):
            regraft.load(written_tensorflow(tmp_path, g, d, lod=torch.zeros(1)))
        with pytest.raises(SourceError, match=r"a StyleGAN \(1\)"):
            regraft.load(written_tensorflow(tmp_path, g, d, **{"synthesis/ToRGB_lod0/weight": torch.zeros(1)}))
        with pytest.raises(SourceError, match="Conv1/weight has shape .*, and must have 4 dimensions"):
            regraft.load(written_tensorflow(tmp_path, g, d, **{"synthesis/8x8/Conv1/weight": torch.zeros(3, 3)}))
        path = tmp_path / "two.pkl"
        path.write_bytes(dumped((tf_network("G", {}, {}), tf_network("D", {}, {}))))
        with pytest.raises(SourceError, match=r"tuple \(G, D, Gs\)"):
            regraft.load(path)
