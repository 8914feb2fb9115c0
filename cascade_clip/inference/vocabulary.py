"""What is looked for: classes, the queries that speak for them, and background."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from cascade_clip.data.catalogue import Split
from cascade_clip.drawing.palette import Colour, class_colours
from cascade_clip.errors import UserError, counted


@dataclass(frozen=True, eq=False)
class Queries:
    """What the Q rows of text embeddings of a training-free model stand for.

    Attributes:
        index: (Q,) int64, the class of each row, in 0..K-1; K: a background word that is no class.
        reference: (Q,) bool, rows that scores are measured against: the background words, classes among them.
        background: The words whose pixels belong to no class; empty: there is no background.
    """

    index: Tensor
    reference: Tensor
    background: tuple[str, ...] = ()

    @classmethod
    def of_classes(cls, rows: Sequence[int]) -> Self:
        """Queries of classes alone: the class of each row."""
        return cls(torch.tensor(rows), torch.zeros(len(rows), dtype=torch.bool))


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The K classes that are looked for.

    Attributes:
        names: K names, as results show them.
        text: (K, C) float32 text embeddings, unit vectors; (Q, C) where there are `queries`.
        seen: (K,) bool, classes that were trained with labels: the bias is subtracted from their scores.
        queries: What the rows of `text` stand for, for training-free models; None: row i is class i.
        colours: A colour for each class; empty: distinct ones are chosen.

    UserError for text embeddings that are no matrix, or names, embeddings and `seen` of different lengths.

    Example:
        >>> from cascade_clip import CascadeCLIP
        >>> vocabulary = CascadeCLIP.from_pretrained("bundled").vocabulary(["wood", "water|pond"])
        >>> vocabulary.names, tuple(vocabulary.text.shape), vocabulary.seen.tolist()
        (('wood', 'water'), (2, 128), [False, False])
    """

    names: tuple[str, ...]
    text: Tensor
    seen: Tensor
    queries: Queries | None = None
    colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        if not self.colours:
            object.__setattr__(self, "colours", class_colours(self.names))
        rows = len(self.names) if self.queries is None else len(self.queries.index)
        if self.text.ndim != 2 or len(self.text) != rows or len(self.seen) != len(self.names):
            raise UserError(
                f"For {counted(len(self.names), 'class')} text embeddings of shape {tuple(self.text.shape)} are given:"
                f" ({rows}, channels) is expected."
            )

    @property
    def background(self) -> tuple[str, ...]:
        """Words whose pixels belong to no class; empty: every pixel has one."""
        return () if self.queries is None else self.queries.background

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of_split(cls, split: Split, text: Tensor, queries: Queries | None = None) -> Self:
        """The classes of a split with their text embeddings (K, C), or (Q, C) of queries."""
        seen = torch.tensor([name not in split.unseen for name in split.class_names])
        return cls(split.class_names, text, seen, queries, split.colours)

    @classmethod
    def of_names(
        cls,
        names: Sequence[str] | None,
        text: Tensor,
        queries: Queries | None = None,
        known: Mapping[str, Colour] | None = None,
    ) -> Self:
        """Classes that all count as unseen; `names` None: "class 0", "class 1" and so on.

        `known` are colours that belong to names; the other classes get distinct ones.
        """
        given = tuple(names) if names is not None else tuple(f"class {index}" for index in range(len(text)))
        unseen = torch.zeros(len(given), dtype=torch.bool)
        return cls(given, text, unseen, queries, class_colours(given, known))
