"""Ranking sources for a set of photos."""

import pathlib

import pytest
import torch

import regraft
from regraft.cli.app import run as cli
from regraft.core.errors import ConfigError
from regraft.data.images import ImageSet
from regraft.verbs import rank
from regraft.verbs.rank import tied
from support.pictures import save_images
from support.toys import toy_gan


class TestRank:
    def test_the_source_of_the_targets_comes_first(self, tmp_path):
        save_images(tmp_path / "photos", regraft.load("digits-high").sample(12, 5))
        rows = regraft.rank(tmp_path / "photos", [toy_gan(), "digits-low", "digits-high"], n=200, out=tmp_path / "rank.png")
        assert [row["rank"] for row in rows] == [1, 2, 3]
        assert [row["source"] for row in rows] == ["digits-high", "digits-low", "toy"]
        assert rows[0]["nearest"] == min(row["nearest"] for row in rows)
        assert [row["tied"] for row in rows] == [False, False, False]
        assert (tmp_path / "rank.png").is_file()

    def test_images_of_all_class_folders_count(self, photos_by_class, gan, monkeypatch):
        looked = []

        def noted(self, *size, **settings):
            looked.append({pathlib.Path(i.name).parent.name for i in self.items})
            return decode(self, *size, **settings)

        decode = ImageSet.decode
        monkeypatch.setattr(ImageSet, "decode", noted)
        monkeypatch.setattr(rank, "MOST_IMAGES", 8)
        regraft.rank(photos_by_class, [gan, gan], n=16)
        assert looked
        assert all(names == {"bars", "blobs"} for names in looked)

    def test_nearness_is_over_what_is_usual_among_targets(self):
        """Targets are prepared for each size, so plain distances from two sources may not be compared."""
        target = torch.tensor([[0.0], [1.0], [3.0], [6.0]])
        for unit in (1.0, 7.0):
            row, ratios, which = rank.measured(unit * target, unit * torch.tensor([[0.5], [2.5], [9.0]]))
            # Nearest others are 1, 1, 2 and 3 away, 1.75 on average; nearest samples 0.5, 0.5, 0.5 and 3.
            assert ratios.tolist() == pytest.approx([0.5 / 1.75, 0.5 / 1.75, 0.5 / 1.75, 3 / 1.75])
            assert row["nearest"] == pytest.approx(4.5 / 4 / 1.75)
            assert which.tolist() == [0, 0, 1, 2]

    def test_with_a_probe(self, photos):
        sources = [toy_gan(seed=s) for s in range(2)]
        rows = regraft.rank(photos, sources, n=32, probe=2)
        assert rows[0]["probe"] <= rows[1]["probe"]
        assert [row["tied"] for row in rows] == [None, None]

    def test_equal_sources_are_called_too_close_to_tell(self, photos, capsys):
        gan = toy_gan()
        assert [row["tied"] for row in regraft.rank(photos, [gan, gan], n=32)] == [False, True]
        assert cli(["rank", str(photos), "-s", "digits-low", "-s", "digits-low", "--n", "32"]) == 0
        assert "Too close to tell from the first by these images: digits-low (2)" in capsys.readouterr().out

    @pytest.mark.parametrize(("mean", "is_tied"), [(0.1, True), (0.3, False)])
    def test_two_standard_errors_decide(self, mean, is_tied):
        # One hundred differences with standard deviation 1.005: two standard errors are 0.201.
        assert tied(mean + torch.tensor([1.0, -1.0]).repeat(50)) is is_tied

    def test_one_source_is_no_ranking(self, photos, gan):
        with pytest.raises(ConfigError, match="at least two"):
            regraft.rank(photos, [gan])
