"""The label map made tile by tile equals, pixel for pixel, that of the plain path."""

from typing import Any
from unittest.mock import patch

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference import tile_labels
from cascade_clip.inference.class_scores import labels_from_scores
from cascade_clip.inference.sliding_window import WindowLogits, slide_scores, window_logits
from cascade_clip.inference.tile_labels import TileLabels

KINDS = ("smooth", "rough", "saturated", "quantised", "repeated", "constant", "near ties", "flat near ties")


class DrawnLogits(torch.nn.Module):
    """Logits of a drawn kind, the same for the same sequence of calls."""

    def __init__(self, seed: int, classes: int, patch_size: int, kind: str) -> None:
        super().__init__()
        self.patch_size, self.classes, self.kind = patch_size, classes, kind
        self.random = torch.Generator().manual_seed(seed)

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        size = (len(image), self.classes, image.shape[-2] // self.patch_size, image.shape[-1] // self.patch_size)
        drawn = torch.randn(size, generator=self.random)
        level = torch.randn(self.classes, 1, 1, generator=self.random)
        if self.kind == "smooth":
            return 3 * level + 0.2 * drawn
        if self.kind == "saturated":
            return 40 * drawn
        if self.kind == "quantised":
            return drawn.round()
        if self.kind == "repeated":
            return 2 * drawn[:, torch.randint(max(1, self.classes // 3), (self.classes,), generator=self.random)]
        if self.kind == "constant":
            return torch.zeros(size)
        if self.kind == "near ties":
            return drawn[:, :1] + 2.0**-22 * drawn
        if self.kind == "flat near ties":  # an interpolated value is rounded by more than the classes differ
            return (4 + 2.0**-19 * level).expand(size).clone()
        return 2 * drawn


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    crop = draw(st.integers(8, 48))
    same = draw(st.booleans())
    size = (draw(st.integers(1, 50)), draw(st.integers(1, 50)))
    return {
        "seed": draw(st.integers(0, 10**6)),
        "classes": draw(st.one_of(st.integers(1, 12), st.integers(1, 300))),
        "patch": draw(st.sampled_from([1, 2, 4, 7, 14, 16])),
        "kind": draw(st.sampled_from(KINDS)),
        "image": size,
        "size": size if same else (draw(st.integers(1, 80)), draw(st.integers(1, 80))),
        "windows": InferenceConfig(
            crop=crop,
            stride=draw(st.integers((crop + 2) // 3, crop)),
            seen_bias=draw(st.sampled_from([0.0, 0.1, 0.7, 3.0])),
            flip=draw(st.booleans()),
            window_batch=draw(st.integers(1, 5)),
        ),
        "threshold": draw(st.sampled_from([None, 0.3, 0.9])),
        "tile": draw(st.sampled_from([9, 16, 64])),
        "elements": draw(st.sampled_from([3000, tile_labels.TILE_ELEMENTS])),
    }


FLAT = {"seed": 1728, "classes": 10, "patch": 2, "kind": "flat near ties", "image": (41, 14), "size": (50, 65)}
"""Where a class would be ruled out that wins, if rounding were not allowed for."""


@settings(max_examples=80, deadline=None)
@given(cases())
@example(FLAT | {"windows": InferenceConfig(crop=31, stride=11), "threshold": None, "tile": 16, "elements": 3000})
def test_labels_and_scores_equal_the_plain_path(case: dict[str, Any]):
    """With and without scores, also where few classes fit at once and take turns."""
    seed, classes, size, windows = (case[key] for key in ("seed", "classes", "size", "windows"))
    pixels, text = torch.zeros(3, *case["image"]), torch.zeros(classes, 2)
    seen = torch.rand(classes, generator=torch.Generator().manual_seed(seed)) < 0.7
    network, again = (DrawnLogits(seed, classes, case["patch"], case["kind"]) for _ in range(2))
    plain = labels_from_scores(slide_scores(network, pixels, text, seen, windows), size, case["threshold"])
    (logits,) = window_logits(again, [pixels], text, windows)
    tiles, best = TileLabels(logits, size, seen, windows.seen_bias, tile=case["tile"]), torch.empty(size)
    with patch.object(tile_labels, "TILE_ELEMENTS", case["elements"]):
        labels = tiles.write(best, case["threshold"])
    assert labels.dtype == plain.labels.dtype
    assert torch.equal(labels, plain.labels)
    assert torch.equal(best, plain.scores)
    assert torch.equal(tiles.write(threshold=case["threshold"]), plain.labels)


def test_a_logit_that_is_no_number_rules_nothing_out():
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 0] = torch.nan
    windows = WindowLogits((8, 8), [(0, 0, 8, 8)], logits, None, (8, 8))
    assert TileLabels(windows, (8, 8), torch.zeros(3, dtype=torch.bool), 0.1).write()[-1, -1] == 0
