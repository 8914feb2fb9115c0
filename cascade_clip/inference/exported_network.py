"""An exported model as a network that inference can use, computed by onnxruntime or OpenVINO."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade_clip.errors import UserError, closest
from cascade_clip.runtime import resolve_device

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Opened(NamedTuple):
    """A file that a runtime can run."""

    run: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    """Image (B, 3, H, W) and text (K, C) to mask logits (B, K, h, w)."""
    sides: Sequence[object]
    """Height and width of images: numbers where the file takes no others."""


class Runtime(NamedTuple):
    """A library that computes exported models; the extra of the same name as in `RUNTIMES` installs it."""

    package: str
    precisions: Callable[[], tuple[str, ...]]
    """In which it computes on this processor."""
    device: Callable[[str], torch.device]
    """Choose by `auto`, `cpu`, `cuda` or `cuda:N`; UserError where it or PyTorch does not support the device."""
    open: Callable[[Path, torch.device, str], Opened]
    """Open a file for a device and a precision; raises what the library raises."""


class ExportedNetwork(nn.Module):
    """Image and text embeddings in, mask logits out, computed by one of `RUNTIMES`.

    `window` is height and width of the only images it takes; None: any multiples of the patch size.
    """

    def __init__(
        self, file: Path, patch_size: int, device: torch.device, *, runtime: str = "onnx", precision: str = "fp32"
    ) -> None:
        """Load an ONNX file of `export`, else raise UserError; `check_runtime` says what can be had here."""
        super().__init__()
        self.patch_size, self.runtime, self._file = patch_size, runtime, file
        try:
            opened = RUNTIMES[runtime].open(file, device, precision)
        except Exception as error:
            raise UserError(f'"{file}" cannot be read ({_reason(error)}): export the model again.') from error
        self._run = opened.run
        height, width = opened.sides
        self.window = (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Mask logits (B, K, h, w) float32 on the image's device, unbounded, on the grid of patches.

        From images (B, 3, H, W) float, normalised, and text embeddings (K, C), unit vectors. UserError for images of
        another size than the file takes, or a model that the runtime cannot compute.
        """
        size = tuple(image.shape[-2:])
        if self.window is not None and size != self.window:
            raise UserError(
                f"The exported model takes windows of {self.window[0]} x {self.window[1]} pixels only, this image gives"
                f" one of {size[0]} x {size[1]}: use the checkpoint itself, without --runtime {self.runtime}."
            )
        inputs = (tensor.detach().float().cpu().numpy() for tensor in (image, text))
        try:
            logits = self._run(*inputs)
        except Exception as error:
            raise UserError(
                f'The runtime {self.runtime} cannot compute "{self._file}" ({_reason(error)}): use another --runtime,'
                " or the checkpoint itself."
            ) from error
        return torch.from_numpy(logits).to(image.device)


def check_runtime(name: str, precision: str = "fp32") -> None:
    """Check that a runtime is known, installed and computes in a precision here, else raise UserError."""
    if name not in RUNTIMES:
        raise UserError(f'"{name}" is no runtime.{closest(name, ["torch", *RUNTIMES])}')
    package = RUNTIMES[name].package
    if find_spec(package) is None:
        raise UserError(
            f"The runtime {name} needs {package}: install the extra with `pip install 'cascade-clip[{name}]'`, or use"
            " --runtime torch."
        )
    if precision not in (known := RUNTIMES[name].precisions()):
        raise UserError(f'The runtime {name} computes in {" or ".join(known)} on this processor, not in "{precision}".')


def _onnxruntime_device(name: str) -> torch.device:
    import onnxruntime

    has_cuda = CUDA in onnxruntime.get_available_providers()
    if name == "auto":
        return resolve_device("cuda" if has_cuda and torch.cuda.is_available() else "cpu")
    device = resolve_device(name)
    if device.type == "mps" or (device.type == "cuda" and not has_cuda):
        raise UserError(
            f'The runtime onnx cannot use the device "{name}" here: use --device cpu'
            + (", or install onnxruntime-gpu." if device.type == "cuda" else ".")
        )
    return device


def _open_in_onnxruntime(file: Path, device: torch.device, _: str) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    provider = (CUDA, {"device_id": device.index or 0}) if device.type == "cuda" else CPU
    session = onnxruntime.InferenceSession(file, options, providers=[provider])
    image, text = session.get_inputs()

    def run(*given: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run(None, dict(zip((image.name, text.name), given, strict=True)))
        return np.asarray(logits)

    return Opened(run, image.shape[2:])


def _openvino_device(name: str) -> torch.device:
    device = resolve_device("cpu" if name == "auto" else name)
    if device.type != "cpu":
        raise UserError(f'The runtime openvino cannot use the device "{name}" here: use --device cpu.')
    return device


def _openvino_precisions() -> tuple[str, ...]:
    import openvino

    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16") if has_bf16 else ("fp32",)


def _open_in_openvino(file: Path, _: torch.device, precision: str) -> Opened:
    import openvino

    # Without the hint OpenVINO takes bf16 wherever the processor has it.
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(file, "CPU", options)
    sides = [axis.get_length() if axis.is_static else None for axis in list(compiled.input(0).partial_shape)[2:]]

    def run(*given: NDArray[np.float32]) -> NDArray[np.float32]:
        # Its own buffer would be overwritten by the next call.
        return np.array(compiled(list(given))[0], dtype=np.float32)

    return Opened(run, sides)


RUNTIMES: dict[str, Runtime] = {
    "onnx": Runtime("onnxruntime", lambda: ("fp32",), _onnxruntime_device, _open_in_onnxruntime),
    "openvino": Runtime("openvino", _openvino_precisions, _openvino_device, _open_in_openvino),
}
"""What computes exported models, by the name that `--runtime` takes; PyTorch computes checkpoints only."""


def _reason(error: Exception) -> str:
    """The beginning of a library's message in one line, without the lines of its source that OpenVINO names."""
    return " ".join(re.sub(r"Exception from \S+:\s", "", str(error)).split())[:200]
