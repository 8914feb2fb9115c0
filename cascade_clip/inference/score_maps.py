"""Scores of every class at every pixel of one image, from the logits of its windows, when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.class_scores import MAPS_AT_ONCE, resize_maps
from cascade_clip.inference.query_labels import QueryLabels
from cascade_clip.inference.sliding_window import WindowLogits, averaged_cosines, averaged_scores
from cascade_clip.inference.tile_labels import TileLabels
from cascade_clip.inference.vocabulary import Queries, Vocabulary


@dataclass(frozen=True, eq=False)
class ScoreMaps:
    """What labels and scores of an image are made from; far smaller than the scores of all classes.

    `size` is (H, W) of the image, `windows` the logits of its windows on the network's device; `pixels` (3, h, w)
    float32 are the normalised image, for the refinement of training-free models; None: not refined.
    """

    windows: WindowLogits
    size: tuple[int, int]
    pixels: Tensor | None
    vocabulary: Vocabulary
    inference: InferenceConfig

    def labels(self) -> TileLabels | QueryLabels:
        """What makes the label map, tile by tile."""
        windows, vocabulary, free = self.windows, self.vocabulary, self.inference.training_free
        if free is None:
            return TileLabels(windows, self.size, self._seen, self.inference.seen_bias)
        maps = windows.logits[0] if free.whole_image and free.direct else averaged_cosines(windows)
        return QueryLabels(maps, self.size, queries_of(vocabulary), len(vocabulary), free, self.pixels)

    def of_classes(self, indices: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Scores (S, H, W) of the classes of these indices; those of each pixel's winner are the winning scores."""
        scores = np.empty((len(indices), *self.size), dtype=dtype)
        labels = self.labels()
        if isinstance(labels, QueryLabels):
            for rows, block in labels.score_blocks(indices):
                scores[:, rows] = block.cpu().numpy()
            return scores
        logits, mirrored = self.windows.logits, self.windows.mirrored
        for first in range(0, len(indices), MAPS_AT_ONCE):
            some = list(indices[first : first + MAPS_AT_ONCE])
            chosen = None if mirrored is None else mirrored[:, some]
            windows = replace(self.windows, logits=logits[:, some], mirrored=chosen)
            averaged = averaged_scores(windows, self._seen[some], self.inference.seen_bias)
            scores[first : first + len(some)] = resize_maps(averaged, self.size).cpu().numpy()
        return scores

    @property
    def _seen(self) -> Tensor:
        return self.vocabulary.seen.to(self.windows.logits.device)


def queries_of(vocabulary: Vocabulary) -> Queries:
    """What the rows of a vocabulary's text embeddings stand for, also where that is the classes one by one."""
    return vocabulary.queries or Queries.of_classes(range(len(vocabulary)))
