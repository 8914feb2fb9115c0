"""The command `recipes`."""

from collections.abc import Callable

import pytest
from click.testing import Result

from cascade_clip_cli.recipes import recipes


@pytest.mark.parametrize(
    ("name", "stages"), [("cascade-zegclip", "[[6, 7, 8], [9, 10, 11], [12]]"), ("zegclip", "[[12]]")]
)
def test_a_recipe_is_shown_with_its_stages(name: str, stages: str, run_command: Callable[..., Result]):
    assert f"stages = {stages}" in run_command(recipes, f"shapes/{name}").stdout.splitlines()


def test_a_recipe_of_a_clip_that_is_not_at_hand_is_shown(tmp_path, run_command: Callable[..., Result]):
    (tmp_path / "mine.toml").write_text(f'clip.architecture = "local-dir:{tmp_path}/none"\n')
    shown = run_command(recipes, tmp_path / "mine.toml").stdout
    assert f'architecture = "local-dir:{tmp_path}/none"' in shown
    assert "stages" not in shown
