"""`--compile`: compile the network before the first image, and say how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_clip import segmenter as segmenter_module
from cascade_clip_cli.console import stderr

if TYPE_CHECKING:
    from torch import Tensor


def compile_network(segmenter: segmenter_module.CascadeCLIP, text: Tensor) -> float:
    """Compile for as many classes as `text` (K, C) has; returns the seconds it took.

    Raises:
        UserError: The network cannot be compiled.
    """
    with stderr.doing("compiling"):
        seconds = segmenter.compile(text)
    stderr.print(f"Compiled in {seconds:.0f} s.")
    return round(seconds, 2)
