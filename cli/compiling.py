"""`--compile`: compile the network before the first image, and say how long it took."""

from __future__ import annotations

from torch import Tensor

from cascade_clip.segmenter import CascadeCLIP
from cascade_clip_cli.console import stderr


def compile_network(segmenter: CascadeCLIP, text: Tensor) -> float:
    """Compile for as many classes as `text` (K, C) has; returns the seconds it took.

    Raises:
        UserError: The network cannot be compiled.
    """
    with stderr.status("compiling"):
        seconds = segmenter.compile(text)
    stderr.print(f"Compiled in {seconds:.0f} s.", highlight=False)
    return round(seconds, 2)
