"""Tables of scores on the command line."""

from regraft.cli.app import run as cli


def test_the_table_shows_interval_and_what_real_images_score(photos_by_class, tmp_path, capsys):
    assert cli(["evaluate", str(photos_by_class), str(photos_by_class), "--metrics", "kid,precision_recall"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "95 % interval" in lines[0]
    assert "real images" in lines[0]
    assert " to " in lines[1]
    assert "(n 12)" in lines[1]
