"""How fast each runtime computes an exported model on this machine."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.export.exported_folder import load_exported
from cascade_clip.inference.exported_network import RUNTIMES
from cascade_clip.runtime import has_bf16, products_in
from cascade_clip.segmenter import CascadeCLIP

ROUNDS = 5
MOST_SECONDS = 20.0
"""No further round begins after it."""
CLASSES = 20
TORCH = ("torch", "fp32")
"""What the others are compared with: runtime and precision."""


def runtime_speeds(model: CascadeCLIP, folder: Path) -> dict[tuple[str, str], float]:
    """Seconds a window takes by runtime and precision, of those that this machine has, on its CPU.

    `model` is in PyTorch, `folder` its export as ONNX. They are measured in turns, so that other work on the machine
    slows all of them; each has the median of its turns.
    """
    side = -(-model.recipe.inference.crop // model.network.patch_size) * model.network.patch_size
    image = torch.randn(1, 3, side, side)
    text = F.normalize(torch.randn(CLASSES, model.clip.visual.proj.shape[1]), dim=-1)
    calls = _calls(model, folder)
    turns: dict[tuple[str, str], list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for call in calls.values():
            call(image, text)
        started = time.perf_counter()
        for _ in range(ROUNDS):
            for name, call in calls.items():
                turn = time.perf_counter()
                call(image, text)
                turns[name].append(time.perf_counter() - turn)
            if time.perf_counter() - started > MOST_SECONDS:
                break
    # The last opened goes first: each model of OpenVINO puts back the signal stack that it found, and one that is freed
    # before a later one would leave that of a model that is gone, on which the next signal ends the process.
    del call
    while calls:
        calls.popitem()
    return {name: median(seconds) for name, seconds in turns.items()}


def speed_sentence(speeds: dict[tuple[str, str], float]) -> str:
    """Which runtime is the fastest here, by how much, and how the others stand."""
    ranked = sorted(((speeds[TORCH] / seconds, name) for name, seconds in speeds.items()), reverse=True)
    (factor, (runtime, precision)), *rest = ranked
    others = [f"{' '.join(name)} {factor:.2g}" for factor, name in rest if name != TORCH]
    missing = [name for name in RUNTIMES if (name, "fp32") not in speeds]
    fastest = (
        "Fastest on this CPU: the checkpoint itself in PyTorch"
        if (runtime, precision) == TORCH
        else f"Fastest on this CPU: --runtime {runtime} --precision {precision}, {factor:.2g} times PyTorch in fp32"
    )
    more = f" ({', '.join(others)} times)" if others else ""
    return f"{fastest}{more}" + "".join(f"; {name} is not installed" for name in missing) + "."


def _calls(model: CascadeCLIP, folder: Path) -> dict[tuple[str, str], Callable[[Tensor, Tensor], Tensor]]:
    """Image and text to mask logits, by runtime and precision."""

    def in_bf16(image: Tensor, text: Tensor) -> Tensor:
        with products_in(torch.bfloat16, image.device):
            return model.network(image, text)

    calls: dict[tuple[str, str], Callable[[Tensor, Tensor], Tensor]] = {TORCH: model.network}
    if has_bf16():
        calls["torch", "bf16"] = in_bf16
    for name, runtime in RUNTIMES.items():
        if find_spec(runtime.package) is not None:
            for precision in runtime.precisions():
                loaded = load_exported(folder, runtime=name, device="cpu", precision=precision)
                calls[name, precision] = loaded.network
    return calls
