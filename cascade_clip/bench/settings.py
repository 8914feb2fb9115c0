"""What decides a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["predict", "eval", "train", "prepare"]
ARCHITECTURE, RECIPE = "ViT-B-16-quickgelu", "coco/cascade-zegclip"
"""The model with random weights that is built by default: the paper's."""


@dataclass(frozen=True)
class BenchSettings:
    """Everything that decides a measurement of a `kind`.

    Attributes:
        checkpoint: Checkpoint or training-free model. None: random weights of this architecture and recipe.
        overrides: `section.key=value` on top of that recipe.
        classes: K. None: the checkpoint's own classes, else 171, or 156 in training (COCO-Stuff's, all or seen).
        size: Height and width of the images in pixels; in training, of the crop.
        batch: Images per training step (None: 1); in inference, windows per forward pass and images of the bare tower
            (None: the recipe's windows, beside a tower on one image).
        images: Images of one evaluation or preparation, which `workers` processes prepare.
        repeats: Rounds that count; warm-up rounds come on top.
        threads: PyTorch's threads. None: PyTorch's default.
        precision: `fp32`, `bf16` or `fp16`, of the network and of the bare tower.
        compiled: Also measure the network compiled by `torch.compile`.
        plain: Also measure the plain path of `predict`: every class at every pixel, one window after the other.
    """

    kind: Kind
    checkpoint: str | None = None
    architecture: str = ARCHITECTURE
    recipe: str = RECIPE
    overrides: tuple[str, ...] = ()
    classes: int | None = None
    size: tuple[int, int] = (512, 512)
    batch: int | None = None
    images: int = 1
    repeats: int = 7
    threads: int | None = None
    workers: int = 1
    precision: str = "fp32"
    device: str = "auto"
    compiled: bool = False
    plain: bool = False

    @property
    def class_count(self) -> int:
        """K where no checkpoint brings its own classes."""
        return self.classes or (156 if self.kind == "train" else 171)
