"""Commands that measure images and show what they found."""

from support.commands import call


def test_facts_are_shown_readably(capsys, source_folder, photos, tmp_path):
    code, out, err = call(capsys, "inspect", source_folder)
    assert code == 0, err
    assert "noncommercial: unknown" in out
    assert max(len(line) for line in out.splitlines() if line.startswith(("objective", "recipe", "  "))) <= 110
    (tmp_path / "two").mkdir()
    for name in ("000.png", "001.png"):
        (tmp_path / "two" / name).write_bytes((photos / name).read_bytes())
    code, out, err = call(capsys, "check", tmp_path / "two")
    assert code == 0, err
    assert "Nothing can be said of near-duplicates and images unlike all others" in out
    assert "about 32 pixels" in out
