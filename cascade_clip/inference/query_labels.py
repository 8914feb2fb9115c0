"""From the cosines of a training-free model to labels (`training_free/SPEC.md` section 4, steps 3 to 8)."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.data.resize import test_size
from cascade_clip.inference.class_scores import label_dtype, no_class, resample, taps
from cascade_clip.inference.vocabulary import Queries
from cascade_clip.model.pamr import refine_maps

BLOCK_ELEMENTS = 2**23
"""Scores that are held at once (32 MiB), whatever the size of the image and the number of queries."""
LARGEST_REFINED = 2**21
"""Most pixels at which scores are refined, a little more than a picture of Cityscapes has."""


def class_maxima(maps: Tensor, queries: Queries, classes: int) -> Tensor:
    """Per class the maximum (K, H, W) over its queries' maps (Q, H, W); every class has at least one."""
    rows = [(queries.index == index).nonzero()[:, 0] for index in range(classes)]
    if all(len(own) == 1 for own in rows):
        return maps[torch.cat(rows).to(maps.device)]
    return torch.stack([maps[own.to(maps.device)].amax(dim=0) for own in rows])


def class_probabilities(maps: Tensor, queries: Queries, classes: int, logit_scale: float) -> Tensor:
    """Probability (K, H, W) of each class: the largest of its queries' in a softmax over all Q maps (Q, H, W).

    They are not normalised again: their sum may be below 1.
    """
    return class_maxima((logit_scale * maps).softmax(dim=0), queries, classes)


def small_classes(labels: Tensor, classes: int, area_threshold: float) -> Tensor:
    """(K,) bool, classes other than 0 that win at most a share of the pixels (H, W) that are not of class 0."""
    counts = torch.bincount(labels.flatten(), minlength=classes)
    small: Tensor = counts <= area_threshold * counts[1:].sum()
    small[0] = False
    return small


class QueryLabels:
    """Labels of one image from its queries' maps, a block of rows at a time."""

    def __init__(
        self,
        maps: Tensor,
        size: tuple[int, int],
        queries: Queries,
        classes: int,
        config: TrainingFreeConfig,
        pixels: Tensor | None = None,
    ) -> None:
        """Take maps (Q, h, w) float32, cosines averaged over windows, what they stand for, and K, how many classes.

        `size` is (H, W) of the label map; `pixels` (3, h', w') are the normalised image of any size, for the
        refinement.
        """
        self.size, self.queries, self.classes, self.config = size, queries, classes, config
        self.device = maps.device
        self.reference = queries.reference.to(self.device)
        self.maps = maps if pixels is None or not config.pamr_steps else _refined(maps, size, pixels, config)

    @torch.inference_mode()
    def write(self, best: Tensor | None = None, threshold: float | None = None) -> Tensor:
        """Make the label map (H, W): uint8 up to 255 classes, else int32; equal scores go to the lowest index.

        Args:
            best: (H, W) float32, filled with the score of every pixel's best class; None: not needed.
            threshold: Pixels whose score is below it get `no_class(K)`, as those that background wins; None: no limit.
        """
        labels = torch.empty(self.size, dtype=label_dtype(self.classes), device=self.device)
        for rows, maps in self._blocks():
            winners, cosines = self._best(maps, self._dropped)
            if self.config.probability_threshold:
                low = self._softmax_score(maps, cosines) < self.config.probability_threshold
                winners = winners.masked_fill(low, 0)
            nothing = torch.zeros_like(winners, dtype=torch.bool)
            if self.queries.background:
                nothing |= maps[(self.queries.index == self.classes).to(self.device)].amax(dim=0) > cosines
            if best is not None or threshold is not None:
                scores = self._scores(maps, winners, cosines)
                if best is not None:
                    best[rows] = scores
                if threshold is not None:
                    nothing |= scores < threshold
            labels[rows] = winners.masked_fill(nothing, no_class(self.classes)).to(labels.dtype)
        return labels

    @torch.inference_mode()
    def score_blocks(self, indices: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the label map and the scores (S, rows, W) of the classes of these indices, as if each one won."""
        chosen, own = list(indices), set(self.queries.index[self.queries.reference].tolist())
        for rows, maps in self._blocks():
            cosines = class_maxima(maps, self.queries, self.classes)[chosen]
            if not own:
                yield rows, self._softmax_score(maps, cosines)
                continue
            against = (self.config.logit_scale * maps[self.reference]).logsumexp(dim=0).expand_as(cosines).clone()
            for place, index in enumerate(chosen):
                if index in own:
                    against[place] = (self.config.logit_scale * maps[self._others(index)]).logsumexp(dim=0)
            yield rows, (self.config.logit_scale * cosines - against).sigmoid_()

    @cached_property
    def _dropped(self) -> Tensor | None:
        """(K,) bool, classes that win too little; None: there is no such rule."""
        if self.config.area_threshold is None:
            return None
        plain = torch.cat([self._best(maps, None)[0] for _, maps in self._blocks()])
        return small_classes(plain, self.classes, self.config.area_threshold)

    def _best(self, maps: Tensor, dropped: Tensor | None) -> tuple[Tensor, Tensor]:
        """The best class of each pixel of a block, (h, W) int64, and its cosine."""
        every = class_maxima(maps, self.queries, self.classes)
        if dropped is not None:
            every = every.masked_fill(dropped[:, None, None], -torch.inf)
        cosines, winners = every.max(dim=0)
        return winners, cosines

    def _scores(self, maps: Tensor, winners: Tensor, cosines: Tensor) -> Tensor:
        """Scores (h, W) in [0, 1] of the winning classes, see `TrainingFreeConfig.score`."""
        if not self.reference.any():
            return self._softmax_score(maps, cosines)
        scale = self.config.logit_scale
        against = (scale * maps[self.reference]).logsumexp(dim=0)
        for index in self.queries.index[self.queries.reference].unique().tolist():
            if bool((here := winners == index).any()):
                # A class is not measured against its own word.
                against[here] = (scale * maps[self._others(index)][:, here]).logsumexp(dim=0)
        return (scale * cosines - against).sigmoid_()

    def _others(self, index: int) -> Tensor:
        """(Q,) bool, the words that scores are measured against but for those of a class."""
        return self.reference & (self.queries.index != index).to(self.device)

    def _softmax_score(self, maps: Tensor, cosines: Tensor) -> Tensor:
        """Probability (h, W) among all queries of the class of these cosines."""
        scale = self.config.logit_scale
        return (scale * cosines - (scale * maps).logsumexp(dim=0)).exp_()

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the label map and their maps (Q, rows, W)."""
        height, width = self.size
        columns = taps(self.maps.shape[2], width, torch.arange(width), self.device)
        step = max(1, BLOCK_ELEMENTS // (len(self.maps) * width))
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            if self.maps.shape[1:] == self.size:
                yield rows, self.maps[:, rows]
                continue
            down = taps(self.maps.shape[1], height, torch.arange(rows.start, rows.stop), self.device)
            yield rows, resample(self.maps, down, columns)


def _refined(maps: Tensor, size: tuple[int, int], pixels: Tensor, config: TrainingFreeConfig) -> Tensor:
    """Maps (Q, H, W) refined at the size of the label map, or at the largest of its aspect that is refined."""
    if size[0] * size[1] > LARGEST_REFINED:
        aspect = size[0] * size[1] / LARGEST_REFINED
        size = test_size(*size, max(1, int(min(size) / aspect**0.5)))
    sized, image = (F.interpolate(part[None], size, mode="bilinear", align_corners=False) for part in (maps, pixels))
    return refine_maps(image, sized, steps=config.pamr_steps, dilations=config.pamr_dilations)[0]
