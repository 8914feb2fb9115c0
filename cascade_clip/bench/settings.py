"""What a measurement is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cascade_clip.errors import UserError, closest

Kind = Literal["predict", "eval", "train", "prepare"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ARCHITECTURE, RECIPE = "ViT-B-16-quickgelu", "coco/cascade-zegclip"
"""The model with random weights that is built by default: the paper's."""
LARGEST_SIDE = 4096
"""Of the images and of the crop, in pixels."""


@dataclass(frozen=True)
class BenchSettings:
    """Everything that decides a measurement.

    Attributes:
        kind: What is measured.
        checkpoint: Checkpoint or training-free model. None: a model with random weights.
        architecture: CLIP architecture of the model with random weights.
        recipe: Recipe of the model with random weights.
        overrides: `section.key=value` on top of that recipe.
        classes: K. None: the checkpoint's own classes, else 171, or 156 in training (COCO-Stuff's, all or seen).
        size: Height and width of the images in pixels; in training, of the crop.
        batch: Images per training step; in inference, windows per forward pass and images of the bare tower. None: 1 in
            training; in inference the recipe's windows per forward pass, beside a tower on one image.
        images: Images of one evaluation or preparation.
        repeats: Rounds that count; warm-up rounds come on top.
        threads: PyTorch's threads. None: PyTorch's default.
        workers: Processes that prepare images.
        precision: `fp32`, `bf16` or `fp16`, of the network and of the bare tower.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        compiled: Also measure the network compiled by `torch.compile`.
        plain: Also measure the plain path, which the fast one is tested against.
        seed: Seed of weights, text embeddings and images.
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
    seed: int = 0

    @property
    def class_count(self) -> int:
        """K where no checkpoint brings its own classes."""
        return self.classes or (156 if self.kind == "train" else 171)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON reads them back: lists in place of tuples."""
        return {**asdict(self), "overrides": list(self.overrides), "size": list(self.size)}


def parse_kind(given: str) -> Kind:
    """Read what is to be measured; raises UserError where nothing of this name can be."""
    for kind in KINDS:
        if given == kind:
            return kind
    raise UserError(f'There is no "{given}" to measure.{closest(given, KINDS)}')


def parse_size(given: str) -> tuple[int, int]:
    """Read "480x640" as height and width in pixels, each of 1 to `LARGEST_SIDE`; raises UserError for anything else."""
    sides = given.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side[:6]) <= LARGEST_SIDE for side in sides):
        raise UserError(
            f'--size is HEIGHTxWIDTH in pixels, for example 480x640, each at most {LARGEST_SIDE}; got "{given}".'
        )
    return int(sides[0]), int(sides[1])
