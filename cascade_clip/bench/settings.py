"""What a measurement is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cascade_clip.errors import UserError, closest

Kind = Literal["predict", "eval", "train", "prepare"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ARCHITECTURE, RECIPE = "ViT-B-16-quickgelu", "coco/cascade-zegclip"
"""What is built with random weights where nothing else is asked for: the paper's model."""
CLASSES: Mapping[str, int] = {"train": 156}
"""Classes where nobody says how many, by kind: those of COCO-Stuff that train, else `ALL_CLASSES`."""
ALL_CLASSES = 171


@dataclass(frozen=True)
class BenchSettings:
    """Everything that decides a measurement; goes through JSON to the processes that measure memory.

    Attributes:
        kind: What is measured.
        checkpoint: Checkpoint or training-free model; none: random weights.
        architecture: CLIP that is built with random weights, where there is no checkpoint.
        recipe: Recipe of the network with random weights.
        overrides: `section.key=value` on top of that recipe.
        classes: K; none: the checkpoint's own classes, else 171, or 156 in training.
        size: Height and width of the images in pixels; in training the crop.
        batch: Images a training step; windows that share a forward pass in inference, and images of the bare tower.
            None: 1 in training; in inference as the recipe has it, beside a tower that sees one image.
        images: Images of one evaluation or preparation.
        repeats: Rounds that count; warm-up rounds come on top.
        threads: PyTorch's threads; none: as many as it takes by itself.
        workers: Processes that prepare images.
        precision: `fp32`, `bf16` or `fp16` of the network's products, and of the bare tower's.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        compiled: Also measure the network as `torch.compile` makes it.
        plain: Also measure the plain path, with which tests compare the fast one.
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
    images: int = 4
    repeats: int = 7
    threads: int | None = None
    workers: int = 1
    precision: str = "fp32"
    device: str = "auto"
    compiled: bool = False
    plain: bool = False
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "overrides": list(self.overrides), "size": list(self.size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchSettings:
        """Read what `to_dict` gave."""
        height, width = values["size"]
        return cls(**{**values, "overrides": tuple(values["overrides"]), "size": (height, width)})


def parse_kind(given: str) -> Kind:
    """Read what is to be measured.

    Raises:
        UserError: Nothing of this name can be measured.
    """
    for kind in KINDS:
        if given == kind:
            return kind
    raise UserError(f'There is no "{given}" to measure.{closest(given, KINDS)}')


def parse_size(given: str) -> tuple[int, int]:
    """Read "480x640" as height and width in pixels.

    Raises:
        UserError: Not two positive numbers.
    """
    sides = given.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f'--size is HEIGHTxWIDTH in pixels, for example 480x640; got "{given}".')
    return int(sides[0]), int(sides[1])
