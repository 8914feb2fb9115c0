"""What can be known of other devices without having one: nothing needs float64, nothing mixes devices."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from two_blocks import two_block_model

from cascade_clip import runtime
from cascade_clip.config.recipes import change_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.training.start import start_training

HOSTS = ("zegclip", "spt-seg", "frozen-clip")
SPLIT = """
dataset = "squares"
classes = [{ name = "red" }, { name = "green" }, { name = "blue" }]
[splits.no-blue]
unseen = ["blue"]
"""


class NoFloat64(TorchDispatchMode):
    """Refuses operations that make tensors of float64, which Apple's GPUs do not have."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype in {torch.float64, torch.complex128}:
                raise AssertionError(f"{func} made a tensor of {tensor.dtype}")
        return result


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_needs_float64(squares_recipe: Recipe, tmp_path, host: str):
    """Mirrored windows with a threshold; a run with validation, and one of self-training."""
    model = two_block_model(squares_recipe, tmp_path, host=host)
    model.recipe = model.recipe.changed(inference={"flip": True})
    split = tmp_path / "no-blue.toml"
    split.write_text(SPLIT)
    settings = [f'model.host="{host}"', f'data.split="{split}"', "train.iterations=1"]
    recipe = change_recipe(squares_recipe, settings)
    with NoFloat64():
        model.segment(np.zeros((70, 130, 3), np.uint8), split=model.split, threshold=0.3)
        start_training(recipe, tmp_path / "run", device="cpu").train()
        again = [f'self_training.init="{tmp_path / "run" / "model"}"', 'self_training.teacher="moving-average"']
        taught = change_recipe(recipe, [*again, "self_training.threshold=0.1"])
        start_training(taught, tmp_path / "self", device="cpu").train()


@pytest.mark.parametrize("host", HOSTS)
def test_the_network_keeps_to_its_device(tiny_recipe: Recipe, tmp_path, host: str):
    """On a GPU that is only imagined, whose tensors have shapes and a device but no values."""
    network = two_block_model(tiny_recipe, tmp_path, host=host).network.train()
    with FakeTensorMode():
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(torch.empty(parameter.shape, device="cuda")))
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
        # 48 x 80 pixels are another grid than that of the positions.
        image, text = torch.empty(2, 3, 48, 80, device="cuda"), torch.empty(5, 32, device="cuda")
        logits = network(image, text)
    assert (logits.device.type, tuple(logits.shape)) == ("cuda", (2, 5, 3, 5))


@pytest.mark.parametrize(
    ("machine", "supported", "warnings"), [("x86_64", False, 1), ("AMD64", True, 0), ("aarch64", False, 0)]
)
def test_a_processor_without_bf16_instructions_says_so_once(machine: str, supported: bool, warnings: int, monkeypatch):
    """PyTorch knows the answer for x86 alone."""
    told: list[str] = []
    monkeypatch.setattr(runtime.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(runtime.logger, "warning", told.append)
    runtime._warn_of_slow_bf16.cache_clear()
    for _ in range(2):
        assert runtime.resolve_precision("bf16", torch.device("cpu")) == torch.bfloat16
    assert runtime.resolve_precision("fp32", torch.device("cpu")) == torch.float32
    assert told == ["This processor has no instructions for bf16: --precision fp32 is faster here."] * warnings
