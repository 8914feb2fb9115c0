import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from two_blocks import two_block_model

from cascade_clip import CascadeCLIP
from cascade_clip.config.schema import Recipe
from cascade_clip.export import exported_folder, runtime_speed
from cascade_clip.export.exported_folder import ExportedModel
from cascade_clip_cli import loading
from cascade_clip_cli.evaluate import evaluate
from cascade_clip_cli.export import export
from cascade_clip_cli.predict import predict

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


def test_export(tiny_recipe: Recipe, tmp_path, run_command):
    two_block_model(tiny_recipe, tmp_path, host="frozen-clip").save_pretrained(tmp_path / "ckpt")
    arguments = (tmp_path / "ckpt", "-f", "pt2", "-o", tmp_path / "pt2", "--json", tmp_path / "export.json")
    result = run_command(export, *arguments)
    assert "as model.pt2" in result.stdout
    assert "any number of images of 64 x 64 pixels and any number of classes" in result.stdout
    assert "Compared with PyTorch on 4 inputs (up to 3 images and 171 classes): mask logits" in result.stdout
    record = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    assert record.pop("seconds_a_window") == {}
    assert record == json.loads((tmp_path / "pt2" / "export.json").read_text(encoding="utf-8"))


def test_predict_and_eval_by_every_runtime(
    two_block_export: tuple[CascadeCLIP, ExportedModel], runtimes: list[str], tmp_path, run_command, refusal
):
    trained, exported = two_block_export
    trained.save_pretrained(tmp_path / "ckpt")
    photo = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    words = ("--classes", "road,tree,sky", "--device", "cpu")
    for runtime, model in {"torch": tmp_path / "ckpt", **dict.fromkeys(runtimes, exported.folder)}.items():
        given = ("-m", model, "--runtime", runtime, "-o", tmp_path / f"by-{runtime}", *words)
        run_command(predict, tmp_path / "photo.png", *given)
    labels = [np.array(Image.open(tmp_path / f"by-{name}" / "photo.labels.png")) for name in ("torch", *runtimes)]
    assert all(np.array_equal(labels[0], others) for others in labels[1:])

    told = refusal(predict, tmp_path / "photo.png", "-m", tmp_path / "ckpt", "--runtime", "onnx", *words)
    assert "is no exported model: write one with `cascade-clip export" in told
    told = refusal(predict, tmp_path / "photo.png", "-m", exported.folder, "--runtime", "onnx", "--compile")
    assert "An exported model is compiled by its own runtime: leave --compile out." in told


def test_eval_by_every_runtime(
    two_block_export: tuple[CascadeCLIP, ExportedModel],
    runtimes: list[str],
    squares: Path,
    tmp_path,
    run_command,
    refusal,
):
    trained, exported = two_block_export
    trained.save_pretrained(tmp_path / "ckpt")
    records = {}
    for runtime, model in {"torch": tmp_path / "ckpt", **dict.fromkeys(runtimes, exported.folder)}.items():
        given = ("--data", squares, "--runtime", runtime, "--device", "cpu", "-o", tmp_path / runtime)
        run_command(evaluate, model, *given)
        records[runtime] = json.loads((tmp_path / runtime / "eval.json").read_text(encoding="utf-8"))
        assert records[runtime]["runtime"] == runtime
    assert all(record["scores"] == records["torch"]["scores"] for record in records.values())
    told = refusal(evaluate, exported.folder, "--data", squares, "--runtime", "onnx", "--precision", "bf16")
    assert 'The runtime onnx computes in fp32 on this processor, not in "bf16".' in told
    told = refusal(evaluate, exported.folder, "--data", squares)
    assert "holds an exported model, not a checkpoint: use `predict` or `eval` with --runtime" in told


def test_the_fastest_runtime_is_told(
    two_block_export: tuple[CascadeCLIP, ExportedModel], runtimes: list[str], tmp_path, run_command, monkeypatch
):
    trained, exported = two_block_export
    trained.save_pretrained(tmp_path / "ckpt")
    monkeypatch.setattr(exported_folder, "export_model", lambda *args, **options: exported)
    monkeypatch.setattr(runtime_speed, "ROUNDS", 1)
    result = run_command(export, tmp_path / "ckpt", "-o", exported.folder, "--json", tmp_path / "export.json")
    assert "Fastest on this CPU: " in result.stdout
    seconds = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))["seconds_a_window"]
    assert {"torch fp32", *(f"{name} fp32" for name in runtimes)} <= set(seconds)
    assert min(seconds.values()) > 0


@pytest.mark.parametrize(
    ("speeds", "sentence"),
    [
        (
            {("torch", "fp32"): 0.9, ("onnx", "fp32"): 0.6, ("openvino", "bf16"): 0.2, ("openvino", "fp32"): 0.5},
            "Fastest on this CPU: --runtime openvino --precision bf16, 4.5 times PyTorch in fp32 (openvino fp32 1.8,"
            " onnx fp32 1.5 times).",
        ),
        (
            {("torch", "fp32"): 0.5, ("onnx", "fp32"): 1.0},
            "Fastest on this CPU: the checkpoint itself in PyTorch (onnx fp32 0.5 times); openvino is not installed.",
        ),
    ],
)
def test_sentence_of_the_fastest(speeds: dict[tuple[str, str], float], sentence: str):
    assert runtime_speed.speed_sentence(speeds) == sentence


def test_other_runtimes_are_mentioned_once_for_many_images(tmp_path, run_command, monkeypatch):
    for number in range(3):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(loading, "MANY_IMAGES", 3)
    words = ("--classes", "grass,water", "--device", "cpu", "-o", tmp_path / "out")

    def told(images: Path, model: str, *options: str) -> int:
        result = run_command(predict, images, "-m", model, *words, *options)
        return result.stderr.count(
            "3 images on a CPU: --precision bf16 or an exported model may be faster. `cascade-clip export bundled"
        )

    monkeypatch.setattr("cascade_clip.runtime.has_bf16", lambda: True)
    assert told(tmp_path, "bundled") == 1
    assert told(tmp_path / "1.png", "bundled") == 0
    assert told(tmp_path, "dense:bundled") == 0
