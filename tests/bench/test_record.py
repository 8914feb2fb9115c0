"""Whole measurements of a tiny model: what is measured is what the toolkit does."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from cascade_clip.bench.measured_model import bare_tower, load_bench_model
from cascade_clip.bench.record import peak_memory, run_bench, warnings_of
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.workloads import build_workload
from cascade_clip.errors import UserError

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


def test_predict_record(tiny_settings: BenchSettings):
    record = run_bench(replace(tiny_settings, plain=True), memory=False)
    assert list(record["subjects"]) == ["bare tower", "label map", "label map, plain"]
    assert record["reference"] == "bare tower"
    assert record["facts"]["windows"] == 2
    ours = record["subjects"]["label map"]
    assert len(ours["ms"]) == 2
    assert ours["ratio"] > 1
    # Two windows through a tower with prompts, and a head: more than twice the bare tower's work.
    assert 2 < ours["gflops"] / record["subjects"]["bare tower"]["gflops"] < 8
    assert list(record["matrix_rates"]) == ["fp32", "bf16"]
    assert all(0 < figures["share_of_matrix_rate"] < 2 for figures in record["subjects"].values())
    assert json.loads(json.dumps(record))["settings"] == record["settings"]


def test_plain_and_fast_path_agree(tiny_settings: BenchSettings, tmp_path):
    workload = build_workload(replace(tiny_settings, plain=True), tmp_path)
    ours, plain = (workload.subjects[name].call() for name in ("label map", "label map, plain"))
    assert isinstance(ours, torch.Tensor)
    assert isinstance(plain, torch.Tensor)
    assert torch.equal(ours, plain)
    assert ours.shape == (64, 80)


def test_eval_counts_every_image(tiny_settings: BenchSettings, tmp_path):
    workload = build_workload(replace(tiny_settings, kind="eval", images=2), tmp_path)
    call, images = workload.subjects["evaluation"]
    found = call()
    assert isinstance(found, torch.Tensor)
    assert (images, found.shape, int(found.sum())) == (2, (7, 7), 2 * 64 * 80)


@pytest.mark.parametrize(
    ("kind", "name"), [("predict", "label map"), ("eval", "evaluation"), ("train", "training step")]
)
def test_the_compiled_network_takes_turns(tiny_settings: BenchSettings, tmp_path, monkeypatch, kind: str, name: str):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    settings = replace(tiny_settings, kind=kind, size=(64, 64), compiled=True)  # type: ignore[arg-type]
    workload = build_workload(settings, tmp_path)
    assert list(workload.subjects) == ["bare tower", name, f"{name}, compiled"]
    ours, fast = (workload.subjects[variant].call() for variant in (name, f"{name}, compiled"))
    if isinstance(ours, torch.Tensor) and isinstance(fast, torch.Tensor):
        assert torch.equal(ours, fast)


def test_bare_tower_is_open_clips(tiny_settings: BenchSettings):
    """On the tower's own grid it computes what open_clip computes, from weights of its own."""
    model = load_bench_model(tiny_settings).model
    visual = model.clip.visual
    side = int(visual.image_size[0])
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = visual(image)
    torch.testing.assert_close(bare_tower(model, (side, side), 2)().clone(), expected)
    assert bare_tower(model, (2 * side, side), 1)().shape == (1, expected.shape[1])


def test_train_record(tiny_settings: BenchSettings):
    settings = replace(tiny_settings, kind="train", size=(64, 64), batch=2)
    record = run_bench(settings, memory=False)
    assert list(record["subjects"]) == ["bare tower", "training step"]
    counts = record["facts"]["parameters"]
    assert 0 < counts["trainable"] < counts["total"]
    # Forward and backward of a frozen tower and a head: more than twice a forward.
    assert record["subjects"]["training step"]["gflops"] > 2 * record["subjects"]["bare tower"]["gflops"]


def test_prepare_record(tiny_settings: BenchSettings):
    record = run_bench(replace(tiny_settings, kind="prepare", images=3, repeats=1), memory=False)
    assert record["reference"] == "plain copy"
    assert record["subjects"]["preparation, 1 process"]["images_per_turn"] == 3
    assert warnings_of(record) == [
        "A single round says nothing about the spread: give --repeats 5 or more to conclude anything."
    ]


def test_warns_of_a_wide_spread():
    record = {"subjects": {"bare tower": {"ratio_spread": 0.0}, "label map": {"ratio_spread": 0.25}}}
    (warning,) = warnings_of(record)
    assert "spread by more than 10 % between their quartiles: label map (25 %)" in warning
    record["subjects"]["label map"]["ratio_spread"] = 0.05
    assert warnings_of(record) == []


def test_memory_of_fresh_processes(tiny_settings: BenchSettings):
    """What this process holds, 1 GiB more than a fresh one, must not count."""
    ballast = torch.ones(2**28)
    peaks = peak_memory(tiny_settings, ["bare tower"])
    assert float(ballast[0]) == 1
    assert 100 < peaks["bare tower"]["host_mib"] < 1024
    assert 0 <= peaks["bare tower"]["host_above_build_mib"] < 500


def test_mistakes_are_told(tiny_settings: BenchSettings, tmp_path):
    train = replace(tiny_settings, kind="train")
    with pytest.raises(UserError, match="Training crops are square; got --size 64x80"):
        build_workload(train, tmp_path)
    with pytest.raises(UserError, match="crop of 70 pixels is no multiple of this CLIP's patches of 16"):
        build_workload(replace(train, size=(70, 70)), tmp_path)
    with pytest.raises(UserError, match="A checkpoint brings its own recipe"):
        load_bench_model(replace(tiny_settings, checkpoint="bundled"))
    dense = BenchSettings("train", checkpoint="dense:bundled", size=(128, 128))
    with pytest.raises(UserError, match="is training-free: there is no training step"):
        build_workload(dense, tmp_path)
