"""Load the model of `predict` and `eval` for the runtime that computes it."""

from __future__ import annotations

from cascade_clip import segmenter
from cascade_clip.export import exported_folder
from cascade_clip.inference import exported_network
from cascade_clip.model import network
from cascade_clip_cli.console import stderr

TORCH = "torch"
MANY_IMAGES = 20
"""From so many on, exporting a model can save more time than it takes."""


def check_runtime(runtime: str, precision: str) -> None:
    """Check `--runtime` before anything is read, see `exported_network.check_runtime`."""
    if runtime != TORCH:
        exported_network.check_runtime(runtime, precision)


def load_model(model: str, runtime: str, device: str, precision: str) -> segmenter.CascadeCLIP:
    """Load a checkpoint or training-free model for PyTorch, or an exported one for another runtime.

    Raises:
        UserError: No such model, another kind of model than the runtime computes, or a device or precision that cannot
            be had.
    """
    with stderr.doing("loading the model"):
        if runtime != TORCH:
            return exported_folder.load_exported(model, runtime=runtime, device=device, precision=precision)
        return segmenter.CascadeCLIP.from_pretrained(model, device=device, precision=precision)


def mention_runtimes(model: segmenter.CascadeCLIP, checkpoint: str, images: int) -> None:
    """Tell on stderr that a trained model may be faster by another runtime, where many images meet a CPU."""
    if images >= MANY_IMAGES and model.device.type == "cpu" and isinstance(model.network, network.CascadeNetwork):
        stderr.print(
            f"{images} images on a CPU: an exported model may be faster. `cascade-clip export {checkpoint} --format"
            " onnx --output exported` tells by which --runtime, and by how much.",
            soft_wrap=True,
        )
