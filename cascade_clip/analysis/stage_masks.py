"""What each stage of the cascade sees of a class, and what their sum makes of it (paper, Figure 6)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.analysis.observed_model import short_stage
from cascade_clip.errors import UserError
from cascade_clip.inference.predictor import Predictor
from cascade_clip.model.network import CascadeNetwork


@dataclass(frozen=True, eq=False)
class StageMasks:
    """Masks of K classes from each of D decoders, which are called "stage {6-8}" and so on, shallow to deep.

    `masks` (K, D, H, W) float32 in [0, 1] are the sigmoid of a decoder's own mask logits, `total` (K, H, W) of the sum
    of all logits: the model's scores before any bias.
    """

    decoders: tuple[str, ...]
    masks: NDArray[np.float32]
    total: NDArray[np.float32]


def network_with_stages(network: object, name: str) -> CascadeNetwork:
    """The network itself; raises `UserError` with the model's name if it has no stages: training-free, or ONNX."""
    if not isinstance(network, CascadeNetwork):
        raise UserError(f'"{name}" has no stages to explain: give --model a trained checkpoint, or "bundled".')
    return network


def decoder_names(network: CascadeNetwork) -> tuple[str, ...]:
    """Name the decoders by the blocks of their stage, as the paper writes them; several of one stage are numbered."""
    stages, per_stage = network.head.stages, len(network.head.decoders) // len(network.head.stages)
    names = [f"stage {{{short_stage(stage).replace(',', ', ')}}}" for stage in stages]
    if per_stage == 1:
        return tuple(names)
    return tuple(f"{name}, decoder {number + 1}" for name in names for number in range(per_stage))


def stage_masks(predictor: Predictor, text: Tensor) -> StageMasks:
    """Look at the predictor's image, which was set, through every stage, in the same windows as a segmentation.

    Takes text embeddings (K, C) of the classes to look at, unit vectors: classes do not interact. Gives masks at the
    size (H, W) at which the image is segmented. Raises UserError where the network has no stages.
    """
    by_class = predictor.stage_scores(text).transpose(0, 1).cpu().numpy()
    return StageMasks(decoder_names(predictor.cascade), by_class[:, :-1], by_class[:, -1])
