"""An exported model in onnxruntime, as a network that inference can use."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from cascade_clip.errors import UserError
from cascade_clip.runtime import resolve_device

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxNetwork(nn.Module):
    """Image and text embeddings in, mask logits out, computed by onnxruntime in float32.

    Attributes:
        patch_size: Side of a patch in pixels.
        window: Height and width of the only images it takes; None: any multiples of the patch size.
    """

    def __init__(self, file: Path, patch_size: int, device: torch.device) -> None:
        """Load an ONNX file of `export`; `device` is the CPU or a CUDA device, see `onnx_device`.

        Raises:
            UserError: onnxruntime is not installed, or the file cannot be read.
        """
        check_onnxruntime()
        import onnxruntime

        super().__init__()
        self.patch_size = patch_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        provider = (CUDA, {"device_id": device.index or 0}) if device.type == "cuda" else CPU
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=[provider])
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f'"{file}" cannot be read ({reason}): export the model again.') from error
        image, text = self._session.get_inputs()
        self._names = (image.name, text.name)
        height, width = image.shape[2:]
        self.window = (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Mask logits (B, K, h, w) float32 on the image's device, unbounded, on the grid of patches.

        Args:
            image: (B, 3, H, W) float, normalised.
            text: (K, C) text embeddings, unit vectors.

        Raises:
            UserError: Images of another size than the file takes.
        """
        size = tuple(image.shape[-2:])
        if self.window is not None and size != self.window:
            raise UserError(
                f"The exported model takes windows of {self.window[0]} x {self.window[1]} pixels only, this image gives"
                f" one of {size[0]} x {size[1]}: use the checkpoint itself, without --runtime onnx."
            )
        inputs = (tensor.detach().float().cpu().numpy() for tensor in (image, text))
        (logits,) = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
        return torch.from_numpy(logits).to(image.device)


def check_onnxruntime() -> None:
    """Check that onnxruntime is installed, else raise a `UserError`."""
    if find_spec("onnxruntime") is None:
        raise UserError(
            "The runtime onnx needs onnxruntime: install the extra with `pip install 'cascade-clip[onnx]'`, or use"
            " --runtime torch."
        )


def onnx_device(name: str) -> torch.device:
    """Choose the device for onnxruntime, which must support it as PyTorch does.

    Args:
        name: `auto` (cuda where both support it, else cpu), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: An unknown name, a device that one of them does not support, or no onnxruntime.
    """
    check_onnxruntime()
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
