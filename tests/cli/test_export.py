from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from two_blocks import two_block_model

from cascade_clip import CascadeCLIP
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.export.exported_folder import ExportedModel
from cascade_clip_cli.export import export
from cascade_clip_cli.predict import predict

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


def test_export(tiny_recipe: Recipe, tmp_path: Path, run_command) -> None:
    two_block_model(tiny_recipe, tmp_path, host="frozen-clip").save_pretrained(tmp_path / "ckpt")
    arguments = (tmp_path / "ckpt", "-f", "pt2", "-o", tmp_path / "pt2", "--json", tmp_path / "export.json")
    result = run_command(export, *arguments)
    assert result.exit_code == 0, result.exception
    assert "as model.pt2" in result.stdout
    assert "any number of images of 64 x 64 pixels and any number of classes" in result.stdout
    assert "Compared with PyTorch on 4 inputs (up to 3 images and 171 classes): mask logits" in result.stdout
    record = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    assert record == json.loads((tmp_path / "pt2" / "export.json").read_text(encoding="utf-8"))


def test_predict_and_eval_by_every_runtime(
    two_block_export: tuple[CascadeCLIP, ExportedModel], tmp_path: Path, run_command
) -> None:
    trained, exported = two_block_export
    trained.save_pretrained(tmp_path / "ckpt")
    photo = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    words = ("--classes", "road,tree,sky", "--device", "cpu")
    for runtime, model in (("torch", tmp_path / "ckpt"), ("onnx", exported.folder)):
        given = ("-m", model, "--runtime", runtime, "-o", tmp_path / f"by-{runtime}", *words)
        result = run_command(predict, tmp_path / "photo.png", *given)
        assert result.exit_code == 0, result.exception
    labels = [np.array(Image.open(tmp_path / f"by-{name}" / "photo.labels.png")) for name in ("torch", "onnx")]
    assert np.array_equal(*labels)

    result = run_command(predict, tmp_path / "photo.png", "-m", tmp_path / "ckpt", "--runtime", "onnx", *words)
    assert isinstance(result.exception, UserError)
    assert "is no exported model: write one with `cascade-clip export" in str(result.exception)
    result = run_command(predict, tmp_path / "photo.png", "-m", tmp_path / "ckpt", "--runtime", "onxx", *words)
    assert isinstance(result.exception, UserError)
    assert '"onxx" is no runtime. Did you mean "onnx"?' in str(result.exception)


def test_mistakes_show_before_the_model_is_loaded(tmp_path: Path, run_command) -> None:
    result = run_command(export, "no-model", "-o", tmp_path, "--format", "tflite")
    assert isinstance(result.exception, UserError)
    assert '"tflite" is no format of export. Known: onnx, pt2.' in str(result.exception)
    (tmp_path / "notes.txt").write_text("mine")
    result = run_command(export, "no-model", "-f", "pt2", "-o", tmp_path)
    assert isinstance(result.exception, UserError)
    assert "is not empty and holds no exported model" in str(result.exception)
