"""What a bar says of a run that is under way."""

from __future__ import annotations

import json
from pathlib import Path

from cascade_clip.config.schema import Recipe
from cascade_clip.reproduce.runs import Run
from cascade_clip.training.run_folder import RunFolder
from cascade_clip_cli.runs_progress import _Position


def test_steps_that_a_killed_run_had_logged_are_not_shown(squares_recipe: Recipe, tmp_path: Path) -> None:
    run = Run("row, seed 0", tmp_path, "inductive", squares_recipe, None, "squares")
    log = RunFolder(tmp_path).metrics_file
    log.write_text(json.dumps({"step": 850, "loss": 1.0, "images_per_s": 9.0}) + "\n")
    position = _Position(run)
    assert position().facts == ()
    log.write_text(json.dumps({"step": 550, "loss": 2.0, "images_per_s": 9.0}) + "\n")
    assert position().facts[0].startswith("550/")
