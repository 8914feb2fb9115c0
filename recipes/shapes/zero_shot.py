"""Zero-shot figures of a CLIP on the drawn world: naming whole images, and localising by patch tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import normalize

from cascade_clip.data.catalogue import get_split
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.training_free import METHODS
from cascade_clip.shapes.classes import CLASS_NAMES, THINGS
from cascade_clip.shapes.scenes import Scene, draw_scene

TEMPLATES: Final = ("a photo of a {}", "a photo of a {}.", "a {} in the scene.", "this is a photo of a {}.")
HELD_OUT: Final = 90_001
"""First number of the seeds of held-out scenes; no training scene starts with it."""


@dataclass(frozen=True)
class Naming:
    """Shares in 0..1 of held-out one-thing scenes that are named right."""

    thing: float
    """The thing, among all things."""
    stuff: float
    """The stuff, among all stuff."""
    both: float
    """Mean of the recalls of all classes: the figure called image-level accuracy."""
    unseen: float
    """Mean recall of the classes that `shapes-seen` hides (things and stuff)."""
    unseen_things: float
    """Mean recall of the unseen compositions only."""


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Normalise images (B, H, W, 3) uint8 with the ImageNet statistics to (B, 3, H, W) float32."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return normalize(tensor, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def held_out_scenes(count: int, *, size: int = 128, dense: bool = False) -> list[Scene]:
    """Draw scenes of several things on several regions (`dense`), or of one thing on one stuff, never trained on."""
    if dense:
        return [draw_scene([HELD_OUT, size, 1, i], size=size) for i in range(count)]
    one = (1, 1)
    return [draw_scene([HELD_OUT, size, 0, i], size=size, things=one, stuff=one) for i in range(count)]


def class_embeddings(model: Any, tokenizer: Any) -> Tensor:
    """Embed all classes of the world with an open_clip CLIP, averaged over `TEMPLATES`: (K, C) unit rows."""
    device = model.logit_scale.device
    with torch.no_grad():
        return open_clip.build_zero_shot_classifier(model, tokenizer, CLASS_NAMES, TEMPLATES, device=device).T


def _recalls(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> dict[int, float]:
    return {int(c): float((guess[truth == c] == c).mean()) for c in np.unique(truth)}


@torch.no_grad()
def naming_accuracy(model: Any, text: Tensor, scenes: Sequence[Scene], batch: int = 100) -> Naming:
    """Name the thing and the stuff of one-thing scenes by cosine to the class embeddings (K, C), unit rows.

    The scenes have the model's image size; NaN where no scene holds such a class.
    """
    images = np.stack([scene.image for scene in scenes])
    chunks = [to_tensor(images[i : i + batch]).to(text.device) for i in range(0, len(images), batch)]
    parts = [model.encode_image(chunk, normalize=True) for chunk in chunks]
    scores = (torch.cat(parts) @ text.T).cpu().numpy()
    things, n = np.asarray([scene.objects[0].label for scene in scenes]), len(THINGS)
    stuff = np.asarray([scene.stuff[0] for scene in scenes])
    thing_guess, stuff_guess = scores[:, :n].argmax(1), scores[:, n:].argmax(1) + n
    recalls = _recalls(things, thing_guess) | _recalls(stuff, stuff_guess)
    hidden = get_split("shapes-seen").unseen_indices
    return Naming(
        thing=float((thing_guess == things).mean()),
        stuff=float((stuff_guess == stuff).mean()),
        both=float(np.mean(list(recalls.values()))),
        unseen=float(np.mean([recalls[c] for c in hidden if c in recalls])),
        unseen_things=float(np.mean([recalls[c] for c in hidden if c in recalls and c < n])),
    )


@torch.no_grad()
def patch_localisation(model: Any, text: Tensor, scenes: Sequence[Scene], batch: int = 50) -> tuple[float, float]:
    """Segment scenes by the cosine of patch tokens (value path of the last block, MaskCLIP) and class embeddings.

    Gives the mean IoU over the classes that occur, of things and of stuff, each in 0..1 (all classes compete per
    pixel).
    """
    classes, size, network = len(CLASS_NAMES), scenes[0].label.shape[0], DenseNetwork(model.visual, METHODS["value"])
    confusion = np.zeros((classes, classes), np.int64)
    for start in range(0, len(scenes), batch):
        chunk = scenes[start : start + batch]
        images = to_tensor(np.stack([scene.image for scene in chunk])).to(text.device)
        scores = network.cosines(images, text)
        guess = functional.interpolate(scores, size=(size, size), mode="bilinear").argmax(1).cpu().numpy()
        truth = np.stack([scene.label for scene in chunk]).astype(np.int64)
        confusion += np.bincount((truth * classes + guess).ravel(), minlength=classes**2).reshape(classes, classes)
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.where(confusion.sum(1) > 0, np.diag(confusion) / np.maximum(union, 1), np.nan)
    return float(np.nanmean(iou[: len(THINGS)])), float(np.nanmean(iou[len(THINGS) :]))
