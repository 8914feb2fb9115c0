"""Image-caption pairs of the drawn world, as a CLIP learns from them, and the byte-pair merges of its tokenizer."""

import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.shapes.classes import CLASS_NAMES, caption_of_one
from cascade_clip.shapes.scenes import draw_scene


@dataclass(frozen=True)
class CurriculumStage:
    """A part of the training with scenes of one kind.

    Attributes:
        size: Side of the scenes in pixels.
        things: Fewest and most things in a scene.
        stuff: Fewest and most regions of stuff.
        batch: Scenes per step.
        share: Share of all steps, 0..1.
        pool: How many different scenes are drawn.
    """

    size: int
    things: tuple[int, int]
    stuff: tuple[int, int]
    batch: int
    share: float
    pool: int


def names_in(captions: Sequence[str]) -> Tensor:
    """Which class names N captions hold, (N, K) bool; `striped blue circle` does not count as `blue circle`."""
    found = torch.zeros(len(captions), len(CLASS_NAMES), dtype=torch.bool)
    longest_first = sorted(range(len(CLASS_NAMES)), key=lambda k: -len(CLASS_NAMES[k]))
    for row, words in enumerate(captions):
        rest = words
        for k in longest_first:
            if CLASS_NAMES[k] in rest:
                found[row, k] = True
                rest = rest.replace(CLASS_NAMES[k], "")
    return found


@dataclass
class Pairs:
    """A pool of pairs: images (N, S, S, 3) uint8, N captions, and the class names that each caption holds (N, K)."""

    images: NDArray[np.uint8]
    captions: list[str]
    named: Tensor

    @classmethod
    def draw(cls, seed: int, stage: CurriculumStage, rank: int = 0, world: int = 1) -> "Pairs":
        """Draw every `world`-th pair of a stage's pool, from `rank` on; other stages and prepared datasets differ."""
        scenes = (
            draw_scene([seed, stage.size, index], size=stage.size, things=stage.things, stuff=stage.stuff)
            for index in range(rank, stage.pool, world)
        )
        images, captions = zip(*((scene.image, scene.caption) for scene in scenes), strict=True)
        return cls(np.stack(images), list(captions), names_in(captions))

    def batch(self, rng: np.random.Generator, size: int, whole: int) -> tuple[NDArray[np.uint8], list[str], Tensor]:
        """Draw B = `size` images, mirrored at random, which makes no caption wrong; `whole` of them bring their own.

        Returns:
            Images (B, S, S, 3) uint8; T captions: one partial caption for every class named in the batch, then the
            full ones; and positive (B, T) bool: every class that the caption names is named by the image's own caption.
        """
        rows = rng.integers(0, len(self.images), size)
        images, mirrored = self.images[rows], rng.integers(0, 2, size).astype(bool)
        images[mirrored] = images[mirrored, :, ::-1]
        named = self.named[rows]
        classes = torch.nonzero(named.any(0))[:, 0]
        partial = [caption_of_one(CLASS_NAMES[int(k)], rng) for k in classes]
        full = [self.captions[int(i)] for i in rows[:whole]]
        true_of = (named[:, None, :] | ~named[None, :whole, :]).all(2)
        return images, partial + full, torch.cat([named[:, classes], true_of], 1)


def write_merges(path: Path, captions: Sequence[str]) -> None:
    """Learn byte-pair merges until every word of the captions is one token; other words still encode by bytes.

    The file is gzip text as open_clip's `SimpleTokenizer(bpe_path=...)` reads it.
    """
    words = Counter(word for text in captions for word in text.lower().replace(".", "").replace(",", "").split())
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while best := _commonest_pair(pieces, words):
        merges.append(best)
        for parts in pieces.values():
            for i in range(len(parts) - 1, 0, -1):
                if i < len(parts) and (parts[i - 1], parts[i]) == best:
                    parts[i - 1 : i + 1] = ["".join(best)]
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _commonest_pair(pieces: dict[str, list[str]], words: Counter[str]) -> tuple[str, str] | None:
    pairs: Counter[tuple[str, str]] = Counter()
    for word, parts in pieces.items():
        for pair in pairwise(parts):
            pairs[pair] += words[word]
    return min(pairs, key=lambda pair: (-pairs[pair], pair)) if pairs else None
