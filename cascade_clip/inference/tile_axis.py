"""One axis of a label map cut into tiles: which scores a tile reads, and which window logits those scores read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_clip.inference.bilinear import Taps, taps


@dataclass(frozen=True)
class Reach:
    """What one window says about the scores of a tile, along one axis.

    Attributes:
        window: Number of the window along this axis.
        scores: The tile's scores that the window covers, of those that the tile reads.
        taps: How they come from the window's logits.
        mirrored: How they come from the logits of the mirrored window.
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
        count: How many scores they are made from.
        resize: How they are made from these.
        reaches: The windows that cover some of these scores, in order.
        coverage: (count,) float32, how many windows cover each score.
    """

    pixels: slice
    count: int
    resize: Taps
    reaches: tuple[Reach, ...]
    coverage: Tensor

    @property
    def length(self) -> int:
        """How many pixels it has."""
        length: int = self.pixels.stop - self.pixels.start
        return length

    @property
    def is_whole(self) -> bool:
        """Whether a single window says all."""
        return len(self.reaches) == 1


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

    def spans(self, tile: int, device: torch.device) -> list[Span]:
        """Cut the axis into tiles of `tile` pixels; the last may be smaller."""
        return [self._span(start, min(start + tile, self.pixels), device) for start in range(0, self.pixels, tile)]

    def _span(self, start: int, stop: int, device: torch.device) -> Span:
        spread = taps(self.scores, self.pixels, torch.arange(start, stop), torch.device("cpu"))
        # Where the label map is the smaller one, most scores are read by no pixel; where sizes agree, no second one is.
        second = torch.where(spread.upper_weight > 0, spread.upper, spread.lower)
        neighbours = torch.cat([spread.lower, second]) + spread.start
        read, order = neighbours.unique(return_inverse=True)
        lower, upper = order.to(device).chunk(2)
        weights = spread.lower_weight.to(device), spread.upper_weight.to(device)
        reaches = tuple(
            reach for number in range(len(self.starts)) if (reach := self._reach(number, read, device)) is not None
        )
        coverage = torch.zeros(len(read))
        for reach in reaches:
            coverage[reach.scores] += 1
        resize = Taps(0, len(read), lower, upper, *weights)
        return Span(slice(start, stop), len(read), resize, reaches, coverage.to(device))

    def _reach(self, number: int, read: Tensor, device: torch.device) -> Reach | None:
        """How window `number` reaches the scores at `read` (n,), which rise; none where it covers none of them."""
        start = self.starts[number]
        first, last = torch.searchsorted(read, torch.tensor([start, start + self.window])).tolist()
        if first == last:
            return None
        inside = read[first:last] - start
        return Reach(
            number,
            slice(first, last),
            taps(self.grid, self.padded, inside, device),
            taps(self.grid, self.padded, self.window - 1 - inside, device),
        )
