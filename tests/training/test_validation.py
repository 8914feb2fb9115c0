"""Pictures of a run: there when they should be, and without any influence on it."""

from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from tiny_data import write_tiny_dataset
from trained_runs import Weights, assert_same_weights, changed, logged_losses

from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import split_for_dataset_folder
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training import validation
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.start import start_training
from cascade_clip.training.validation import RunPictures, Validation, shown_images

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


def sheets(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("pictures/*"))


@pytest.fixture(scope="module")
def pictured(squares_recipe: Recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictured") / "run"
    recipe = changed(squares_recipe, pictures=2, validate_every=3, save_every=4)
    start_training(recipe, folder, device="cpu").train()
    return folder


def test_curves_and_a_sheet_of_each_validation(pictured: Path):
    assert sheets(pictured) == ["curves.png", "validation-000003.jpg", "validation-000006.jpg"]
    with Image.open(pictured / "pictures" / "validation-000006.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.height > 2 * 360


def test_no_weight_and_no_draw_is_changed(pictured: Path, uninterrupted: tuple[Path, Weights]):
    folder, weights = uninterrupted
    assert not (folder / "pictures").exists()
    assert_same_weights(weights, load_file(pictured / "model" / "model.safetensors"))
    assert logged_losses(pictured) == logged_losses(folder)


def test_curves_without_validation_images_are_drawn_at_each_saved_state(squares_recipe: Recipe, tmp_path, monkeypatch):
    drawn: list[int] = []
    monkeypatch.setattr(validation, "curves_figure", lambda log, title: drawn.append(log[-1]["step"]) or b"")
    dataset = write_tiny_dataset(tmp_path / "data", val=0)
    recipe = squares_recipe.changed(data={"dataset": dataset}, train={"pictures": 1})
    start_training(recipe, tmp_path / "run", device="cpu").train()
    assert drawn == [2, 4, 6]


def test_pictures_that_are_old_are_drawn_between_validations(
    squares_recipe: Recipe, uninterrupted: tuple[Path, Weights], tmp_path, monkeypatch
):
    """By the clock alone, before anything is logged too; they change no weight."""
    monkeypatch.setattr(validation, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(validation, "MOST_OF_THE_TIME", 1e9)
    drawn: list[str | None] = []
    draw = RunPictures.draw
    monkeypatch.setattr(RunPictures, "draw", lambda self, name: (drawn.append(name), draw(self, name)))
    recipe = changed(squares_recipe, pictures=1, validate_every=4, log_every=5, save_every=3)
    start_training(recipe, tmp_path / "run", device="cpu").train()
    old = "latest.jpg"
    assert drawn == [old, old, old, "validation-000004.jpg", old, "validation-000006.jpg"]
    assert sheets(tmp_path / "run") == ["curves.png", old, "validation-000004.jpg", "validation-000006.jpg"]
    assert_same_weights(uninterrupted[1], load_file(tmp_path / "run" / "model" / "model.safetensors"))


def test_only_pictures_of_later_steps_are_forgotten(tmp_path):
    run = RunFolder(tmp_path)
    run.pictures.mkdir()
    for name in ("validation-000004.jpg", "validation-1000004.jpg", "validation-mine.jpg", "curves.png"):
        (run.pictures / name).touch()
    run.forget_after(5)
    assert sheets(tmp_path) == ["curves.png", "validation-000004.jpg", "validation-mine.jpg"]


def test_a_picture_that_cannot_be_written_does_not_stop_the_run(
    squares: Path, tiny_model: CascadeCLIP, tmp_path, caplog, monkeypatch
):
    scored = Validation(split_for_dataset_folder(squares), PreparedDataset.open(squares))
    (tmp_path / "pictures").touch()
    monkeypatch.setattr(validation.logger, "propagate", True)
    monkeypatch.setattr(validation, "curves_figure", lambda log, title: b"")
    RunPictures(RunFolder(tmp_path), tiny_model, scored, "mine").draw(None)
    assert 'curves.png" cannot be written: ' in caplog.text
    assert "Training goes on." in caplog.text


def test_the_same_images_for_the_same_seed():
    assert shown_images(300, 4, 7) == shown_images(300, 4, 7) != shown_images(300, 4, 8)
    assert shown_images(3, 9, 0) == [0, 1, 2]
