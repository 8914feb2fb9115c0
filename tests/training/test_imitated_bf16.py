"""Training in bf16 on a processor without instructions for it: the whole step is imitated, to the same losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trained_runs import logged_losses, train_to_weights

from cascade_clip import runtime
from cascade_clip.config.schema import Recipe
from cascade_clip.imitated_bf16 import ImitatedBf16


class Counted(ImitatedBf16):
    """Counts the operations of each kind that it saw on bf16 tensors."""

    seen: dict[str, int]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.bfloat16:
            self.seen[func.name()] = self.seen.get(func.name(), 0) + 1
        return super().__torch_dispatch__(func, types, args, kwargs)


def test_forward_and_backward_pass(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = squares_recipe.train.model_copy(update={"iterations": 3})
    recipe = squares_recipe.model_copy(update={"train": config})
    Counted.seen = {}
    monkeypatch.setattr(runtime, "ImitatedBf16", Counted)
    losses = []
    for instructions in (True, False):
        assert not Counted.seen
        monkeypatch.setattr(runtime, "has_bf16_instructions", lambda given=instructions: given)
        folder = tmp_path / f"{instructions}"
        train_to_weights(recipe, folder, precision="bf16")
        losses.append(logged_losses(folder))
    assert Counted.seen["aten::addmm"] > 0
    assert Counted.seen["aten::mm"] > 0
    assert Counted.seen["aten::_scaled_dot_product_flash_attention_for_cpu_backward"] > 0
    plain, imitated = losses
    assert len(plain) == config.iterations
    assert imitated == pytest.approx(plain, rel=2e-3)
    assert plain[0] != plain[-1]
