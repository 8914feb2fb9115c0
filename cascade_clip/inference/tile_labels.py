"""The label map of one image from its windows' logits, tile by tile, without upsampling classes that cannot win.

Bilinear weights are convex and the sigmoid rises, so that within a tile a class's scores lie between those of the
smallest and the largest logit around it. A class whose upper bound is below another's lower bound wins nowhere in the
tile. What is left is computed value by value as in `slide_scores` and `labels_from_scores`: the labels are equal.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_clip.inference.class_scores import (
    Taps,
    class_bias,
    label_dtype,
    no_class,
    resample,
    scores_of_logits,
    taps,
)
from cascade_clip.inference.sliding_window import WindowLogits

TILE_SCORES = 64
"""Side of a tile in scores on a CPU: its candidates stay in the cache (measured against 32, 96, 128)."""
TILE_SCORES_ACCELERATOR = 1024
"""Side of a tile in scores elsewhere, where each tile costs the same few kernel launches (measured on an H100 against
256, 512, 2048: images of 480 x 640 pixels in batches of 16 take 20 ms instead of 36 at 256)."""
LARGEST_TILE = 2
"""Sides of a tile in pixels are at most this many times those in scores, however much the image is enlarged."""
TILE_ELEMENTS = 2**23
"""Scores of a tile that are held at once (32 MiB in float32) on a CPU; more classes take turns."""
TILE_ELEMENTS_ACCELERATOR = 2**26
"""The same elsewhere (256 MiB)."""
SCORE_ROUNDING = 2.0**-17
"""How far rounding may carry an averaged and resized score, for scores of up to 1. That of the interpolated logit is in
it: a change of a logit by a share r moves its sigmoid by 0.23 r at most."""


@dataclass(frozen=True)
class WindowOverlap:
    """Scores of a tile covered by one window, with the weights that give them, along one axis.

    Attributes:
        window: Number of the window along this axis.
        scores: The covered ones of the scores that the tile reads.
        taps: Weights of the window's logits.
        mirrored: Weights of the mirrored window's logits.
    """

    window: int
    scores: slice
    taps: Taps
    mirrored: Taps


@dataclass(frozen=True)
class Span:
    """A tile along one axis.

    Attributes:
        pixels: Its pixels of the label map.
        resize: Weights of the n scores that they are resized from.
        overlaps: The windows that cover some of these scores, in order.
        coverage: (n,) float32, number of windows that cover each score.
    """

    pixels: slice
    resize: Taps
    overlaps: tuple[WindowOverlap, ...]
    coverage: Tensor


@dataclass(frozen=True)
class Axis:
    """Lengths along one axis: of the label map, of the scores, and of windows that start at `starts`."""

    pixels: int
    scores: int
    starts: Sequence[int]
    window: int
    padded: int
    """Length that the grid stands for: the window's, filled up to whole patches."""
    grid: int
    """Patches of a window."""

    def spans(self, side: int, device: torch.device) -> list[Span]:
        """Cut the axis into tiles that are resized from `side` scores; the last may be smaller."""
        tile = max(1, min(side * self.pixels // self.scores, LARGEST_TILE * side))
        return [self._span(start, min(start + tile, self.pixels), device) for start in range(0, self.pixels, tile)]

    def _span(self, start: int, stop: int, device: torch.device) -> Span:
        spread = taps(self.scores, self.pixels, torch.arange(start, stop), torch.device("cpu"))
        # Where the label map is the smaller one, most scores are read by no pixel; where sizes agree, no second one is.
        second = torch.where(spread.upper_weight > 0, spread.upper, spread.lower)
        neighbours = torch.cat([spread.lower, second]) + spread.start
        read, order = neighbours.unique(return_inverse=True)
        lower, upper = order.to(device).chunk(2)
        weights = spread.lower_weight.to(device), spread.upper_weight.to(device)
        overlaps, coverage = [], torch.zeros(len(read))
        for number, begin in enumerate(self.starts):
            first, last = torch.searchsorted(read, torch.tensor([begin, begin + self.window])).tolist()
            if first < last:
                inside = read[first:last] - begin
                places = (inside, self.window - 1 - inside)
                own, mirrored = (taps(self.grid, self.padded, place, device) for place in places)
                overlaps.append(WindowOverlap(number, slice(first, last), own, mirrored))
                coverage[first:last] += 1
        resize = Taps(0, len(read), lower, upper, *weights)
        return Span(slice(start, stop), resize, tuple(overlaps), coverage.to(device))


class TileLabels:
    """Labels of one image, tile by tile."""

    def __init__(
        self, windows: WindowLogits, size: tuple[int, int], seen: Tensor, bias: float, *, tile: int | None = None
    ) -> None:
        """Divide the label map of `size` (H, W) into tiles whose side is `tile` scores; None: as suits the device.

        `windows` are the logits of all windows of the image; `bias` is subtracted from the scores of classes that are
        `seen`, (K,) bool.
        """
        self.windows, self.size = windows, size
        self.device = windows.logits.device
        self.classes = windows.logits.shape[1]
        self.bias = class_bias(seen, bias)
        self.margin = SCORE_ROUNDING * (1 + bias)
        side = tile or (TILE_SCORES if self.device.type == "cpu" else TILE_SCORES_ACCELERATOR)
        self.rows, self.columns = (axis.spans(side, self.device) for axis in _axes(windows, size))
        self.windows_a_row = len({x1 for _, x1, _, _ in windows.boxes})

    @torch.inference_mode()
    def write(self, best: Tensor | None = None, threshold: float | None = None) -> Tensor:
        """Make the label map (H, W): uint8 up to 255 classes, else int32; equal scores go to the lowest index.

        Args:
            best: (H, W) float32, filled with the winning score of every pixel; None: not needed.
            threshold: Pixels whose winning score is below it get `no_class(K)`; None: every pixel has a class.
        """
        labels = torch.empty(self.size, dtype=label_dtype(self.classes), device=self.device)
        for rows in self.rows:
            for columns in self.columns:
                place = (rows.pixels, columns.pixels)
                candidates = self._candidates(rows, columns)
                if len(candidates) == 1 and best is None and threshold is None:
                    labels[place] = candidates
                    continue
                winners, scores = self._winners(rows, columns, candidates)
                if threshold is not None:
                    winners.masked_fill_(scores < threshold, no_class(self.classes))
                labels[place] = winners.to(labels.dtype)
                if best is not None:
                    best[place] = scores
        return labels

    def _candidates(self, rows: Span, columns: Span) -> Tensor:
        """Classes (S,) that may win somewhere in a tile, rising."""
        regions = [
            logits[:, down.start : down.stop, across.start : across.stop]
            for logits, down, across in self._regions(rows, columns)
        ]
        highest = torch.stack([region.amax((1, 2)) for region in regions]).amax(dim=0)
        lowest = torch.stack([region.amin((1, 2)) for region in regions]).amin(dim=0)
        bounds = torch.stack([highest, lowest], dim=1)[..., None]
        upper, lower = scores_of_logits(bounds, self.bias).squeeze(2).unbind(dim=1)
        # Turned round, so that a logit that is no number rules nothing out.
        return (~(upper < lower.max() - self.margin)).nonzero()[:, 0]

    def _regions(self, rows: Span, columns: Span) -> Iterator[tuple[Tensor, Taps, Taps]]:
        """The logits (K, h, w) that a tile reads, and where."""
        for down in rows.overlaps:
            for across in columns.overlaps:
                number = down.window * self.windows_a_row + across.window
                yield self.windows.logits[number], down.taps, across.taps
                if self.windows.mirrored is not None:
                    yield self.windows.mirrored[number], down.taps, across.mirrored

    def _winners(self, rows: Span, columns: Span, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Winning class, int64, and score of a tile's pixels; candidates take turns where they are many."""
        scores = len(rows.coverage) * len(columns.coverage)
        pixels = len(rows.resize.lower) * len(columns.resize.lower)
        elements = TILE_ELEMENTS if self.device.type == "cpu" else TILE_ELEMENTS_ACCELERATOR
        together = max(1, elements // max(scores, pixels))
        first, *rest = candidates.split(together)
        winners, best = self._best_of(rows, columns, first)
        for some in rest:
            others, their_best = self._best_of(rows, columns, some)
            # Later candidates have higher indices: they lose ties.
            better = their_best > best
            winners, best = torch.where(better, others, winners), torch.where(better, their_best, best)
        return winners, best

    def _best_of(self, rows: Span, columns: Span, candidates: Tensor) -> tuple[Tensor, Tensor]:
        scores = self._scores(rows, columns, candidates)
        if len(candidates) == 1:
            return candidates.expand(scores.shape[1:]).clone(), scores[0]
        best = scores.amax(dim=0)
        # The first of the best, by a maximum of falling ranks: an argmax over classes is many times slower.
        ranks = torch.arange(len(candidates), 0, -1, dtype=torch.int32, device=self.device)[:, None, None]
        first = len(candidates) - ((scores >= best) * ranks).amax(dim=0)
        return candidates[first.clamp_(max=len(candidates) - 1)], best

    def _scores(self, rows: Span, columns: Span, candidates: Tensor) -> Tensor:
        """Scores (S, H, W) of some classes at the pixels of a tile, averaged over windows and resized."""
        bias = self.bias[candidates]
        if len(rows.overlaps) == len(columns.overlaps) == 1:
            averaged = self._window_scores(rows.overlaps[0], columns.overlaps[0], candidates, bias)
        else:
            averaged = torch.zeros(len(candidates), len(rows.coverage), len(columns.coverage), device=self.device)
            for down in rows.overlaps:
                for across in columns.overlaps:
                    window = self._window_scores(down, across, candidates, bias)
                    averaged[:, down.scores, across.scores] += window
            averaged.div_(rows.coverage[:, None] * columns.coverage)
        return averaged if self.size == self.windows.size else resample(averaged, rows.resize, columns.resize)

    def _window_scores(self, down: WindowOverlap, across: WindowOverlap, candidates: Tensor, bias: Tensor) -> Tensor:
        number = down.window * self.windows_a_row + across.window
        scores = scores_of_logits(resample(self.windows.logits[number][candidates], down.taps, across.taps), bias)
        if self.windows.mirrored is None:
            return scores
        mirrored = resample(self.windows.mirrored[number][candidates], down.taps, across.mirrored)
        return scores.add_(scores_of_logits(mirrored, bias)).div_(2)


def _axes(windows: WindowLogits, size: tuple[int, int]) -> tuple[Axis, Axis]:
    y1, x1, y2, x2 = windows.boxes[0]
    rows, columns = sorted({box[0] for box in windows.boxes}), sorted({box[1] for box in windows.boxes})
    height, width = windows.logits.shape[-2:]
    return (
        Axis(size[0], windows.size[0], rows, y2 - y1, windows.padded[0], height),
        Axis(size[1], windows.size[1], columns, x2 - x1, windows.padded[1], width),
    )
