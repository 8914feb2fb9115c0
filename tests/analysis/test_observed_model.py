from pathlib import Path

import pytest

from cascade_clip.analysis.observed_model import model_name
from cascade_clip.errors import UserError


def test_names_that_are_already_models_stay():
    for name in ("bundled", "dense:bundled", "dense-self:ViT-B-16:openai", "ORG/NAME"):
        assert model_name(name) == name


def test_a_clip_is_a_training_free_model():
    assert model_name("ViT-B-16-quickgelu") == "dense:ViT-B-16-quickgelu"
    assert model_name("ViT-B-16:random:3") == "dense:ViT-B-16:random:3"
    assert model_name("hf-hub:ORG/NAME") == "dense:hf-hub:ORG/NAME"


def test_a_runs_folder_stands_for_its_model(tmp_path: Path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    assert model_name(str(tmp_path / "run")) == str(tmp_path / "run" / "model")
    assert model_name(str(tmp_path / "run" / "model")) == str(tmp_path / "run" / "model")
    assert model_name(str(tmp_path)) == str(tmp_path)


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UserError, match='"ViT-B-61" is neither a checkpoint nor a run folder, and open_clip knows no'):
        model_name("ViT-B-61")
    with pytest.raises(UserError, match='Did you mean "ViT-B-16"'):
        model_name("ViT-B-61")
