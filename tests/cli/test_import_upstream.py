"""`import-upstream`: mistakes in its options are told at once, and nothing is written."""

import pytest
from command_line import exit_code

from cascade_clip_cli.import_upstream import _stages


@pytest.mark.parametrize(
    "given",
    ["", "²-³", "٣", "1-999999999", "9" * 5000, "3-1", "0", "-1", "6-8,,12", "6-8,", "1-2-3", "1.5", "a", "6—8"],
)
def test_stages_that_are_none(given: str, tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(b"x")
    assert exit_code("import-upstream", tmp_path / "x.pth", "-o", tmp_path / "out", f"--stages={given}") == 2
    assert "--stages" in (told := capsys.readouterr().err)
    assert "6-8,9-11,12" in told
    assert not (tmp_path / "out").exists()


def test_stages():
    assert _stages(" 6-8 ,9-11,12") == ((6, 7, 8), (9, 10, 11), (12,))
    assert _stages(None) is None
