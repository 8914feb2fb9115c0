"""`--compile`: the network is compiled before the first image, and its warm-up told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_clip_cli.console import stderr

if TYPE_CHECKING:
    from torch import Tensor

    from cascade_clip.segmenter import CascadeCLIP


def compile_network(segmenter: CascadeCLIP, text: Tensor) -> float:
    """Compile for as many classes as `text` (K, C) embeds; the seconds it took.

    Raises:
        UserError: The network cannot be compiled.
    """
    with stderr.status("compiling"):
        seconds = segmenter.compile(text)
    stderr.print(f"Compiled in {seconds:.0f} s.", highlight=False)
    return round(seconds, 2)
