"""Which runtimes, devices and precisions can be had, and what is said where they cannot."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cascade_clip.errors import UserError
from cascade_clip.export import exported_file
from cascade_clip.inference import exported_network
from cascade_clip.inference.exported_network import CPU, CUDA, RUNTIMES, ExportedNetwork, Opened, check_runtime


def test_cuda_only_where_both_have_it(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert RUNTIMES["onnx"].device("auto") == RUNTIMES["openvino"].device("auto") == torch.device("cpu")
    with pytest.raises(
        UserError, match='cannot use the device "cuda" here: use --device cpu, or install onnxruntime-gpu'
    ):
        RUNTIMES["onnx"].device("cuda")
    with pytest.raises(UserError, match='runtime openvino cannot use the device "cuda:1" here: use --device cpu'):
        RUNTIMES["openvino"].device("cuda:1")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert RUNTIMES["onnx"].device("auto") == torch.device("cuda")
    assert RUNTIMES["onnx"].device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert RUNTIMES["onnx"].device("auto") == torch.device("cpu")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_missing_packages_are_one_sentence(runtime: str, monkeypatch):
    find, package = importlib.util.find_spec, RUNTIMES[runtime].package
    hidden = {package, "onnxscript"}
    for module in (exported_network, exported_file):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in hidden else find(name))
    needs = rf"The runtime {runtime} needs {package}: install the extra with `pip install 'cascade-clip\[{runtime}\]'`"
    with pytest.raises(UserError, match=needs):
        check_runtime(runtime)
    with pytest.raises(UserError, match=r"The ONNX format needs .*onnxscript.*: .* or use --format pt2"):
        exported_file.check_packages()


@pytest.mark.parametrize(
    ("runtime", "capabilities", "precision", "known"),
    [
        ("onnx", [], "bf16", "fp32"),
        ("openvino", ["FP32", "INT8"], "bf16", "fp32"),
        ("openvino", ["BF16"], "fp16", "fp32 or bf16"),
    ],
)
def test_precisions_that_are_refused(runtime: str, capabilities: list[str], precision: str, known: str, monkeypatch):
    pytest.importorskip(RUNTIMES[runtime].package, reason=f"the extra {runtime} is not installed")
    if runtime == "openvino":
        openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
        core = SimpleNamespace(get_property=lambda device, name: capabilities)
        monkeypatch.setattr(openvino, "Core", lambda: core)
    check_runtime(runtime)
    says = f'The runtime {runtime} computes in {known} on this processor, not in "{precision}"'
    with pytest.raises(UserError, match=says):
        check_runtime(runtime, precision)


def test_a_model_that_a_runtime_cannot_compute(monkeypatch):
    def fail(*inputs: np.ndarray) -> np.ndarray:
        raise RuntimeError("Exception from src/core.cpp:132:\nno kernel\nfor this")

    monkeypatch.setitem(RUNTIMES, "openvino", RUNTIMES["openvino"]._replace(open=lambda *_: Opened(fail, ("h", "w"))))
    network = ExportedNetwork(Path("model.onnx"), 16, torch.device("cpu"), runtime="openvino")
    says = r'The runtime openvino cannot compute "model\.onnx" \(no kernel for this\): use another --runtime'
    with pytest.raises(UserError, match=says):
        network(torch.zeros(1, 3, 16, 16), torch.zeros(2, 4))
