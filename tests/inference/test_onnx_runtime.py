"""Which device onnxruntime uses, and what is said where it is missing."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from cascade_clip.errors import UserError
from cascade_clip.export import exported_file
from cascade_clip.inference import onnx_runtime
from cascade_clip.inference.onnx_runtime import CPU, CUDA, onnx_device

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def test_cuda_only_where_both_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert onnx_device("auto") == torch.device("cpu")
    with pytest.raises(
        UserError, match='cannot use the device "cuda" here: use --device cpu, or install onnxruntime-gpu'
    ):
        onnx_device("cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert onnx_device("auto") == torch.device("cuda")
    assert onnx_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert onnx_device("auto") == torch.device("cpu")


def test_apple_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UserError, match=r'cannot use the device "mps" here: use --device cpu\.'):
        onnx_device("mps")


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    hidden = {"onnxruntime", "onnxscript"}
    for module in (onnx_runtime, exported_file):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in hidden else find(name))
    with pytest.raises(UserError, match=r"The runtime onnx needs onnxruntime: install the extra with `pip install"):
        onnx_device("cpu")
    with pytest.raises(UserError, match=r"The ONNX format needs onnxscript and onnxruntime: .* or use --format pt2"):
        exported_file.check_packages()
