"""What validation scores, and the scores that a model card shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cascade_clip.data.catalogue import Split
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.evaluation.scores import Scores


@dataclass(frozen=True)
class Validation:
    """What validation scores.

    Attributes:
        split: Classes, seen and unseen.
        dataset: Prepared images; its validation part counts.
        templates: Templates of the class names; None: those of training.
    """

    split: Split
    dataset: PreparedDataset
    templates: str | None = None


def card_scores(scores: Scores | None) -> dict[str, float]:
    """The scores of a model card by their names, without those that do not exist."""
    if scores is None:
        return {}
    named = {
        "mIoU": scores.miou,
        "mIoU seen": scores.miou_seen,
        "mIoU unseen": scores.miou_unseen,
        "hIoU": scores.hiou,
        "pixel accuracy": scores.pixel_accuracy,
    }
    return {name: value for name, value in named.items() if not math.isnan(value)}
