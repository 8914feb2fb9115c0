"""What a step learns from: labels of seen classes, or these and pseudo labels of unseen ones (SPEC section 6)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cascade_clip.config.schema import SelfTrainingConfig
from cascade_clip.data.catalogue import Split
from cascade_clip.data.samples import TrainSample
from cascade_clip.labels import IGNORED
from cascade_clip.losses.targets import pseudo_labels, remap_labels, seen_label_table
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import products_in, repeatable_randomness


class StudentPasses:
    """Passes of the network that trains over the micro-batches of one step; labels may be guessed from them.

    Of one micro-batch the guess comes from the very pass that is trained. Of several, whose activations cannot all be
    kept until N is known, it comes from passes without gradient, which are then repeated with the same dropout.
    """

    def __init__(self, network: nn.Module, images: Sequence[Tensor], text: Tensor) -> None:
        """Take the network in training mode, images (B, 3, H, W) of each micro-batch and text (K, C); nothing runs."""
        self.network = network
        self.images = images
        self.text = text
        self._kept: Tensor | None = None

    def ahead(self) -> list[Tensor]:
        """Logits (B, K, h, w) of every micro-batch, as `logits` will give them."""
        if len(self.images) == 1:
            self._kept = self.network(self.images[0], self.text)
            return [self._kept]
        with torch.no_grad(), repeatable_randomness(self.text.device):
            return [self.network(image, self.text) for image in self.images]

    def logits(self, number: int) -> Tensor:
        """Logits (B, K, h, w) of a micro-batch, with a gradient; asked for once each, in order."""
        kept, self._kept = self._kept, None
        return self.network(self.images[number], self.text) if kept is None else kept


class SeenLabels:
    """Decides which classes are fed while training and what their labels are: inductive, labels of seen classes alone.

    Attributes:
        fed: Indices of the classes whose texts are fed, in label order.
        hidden: Classes whose labels nothing in training may see.
        kept: A network beside the one that trains which changes with it and is saved with it; None: there is none.
    """

    hidden: tuple[int, ...] = ()
    kept: CascadeNetwork | None = None

    def __init__(self, split: Split) -> None:
        self.fed = split.seen_indices
        self._table = seen_label_table(self.fed)

    def label(self, batch: Sequence[TrainSample], passes: StudentPasses) -> list[Tensor]:
        """Labels (B, H, W) int64 of each micro-batch: positions in `fed`, and 255."""
        return [remap_labels(samples["label"], self._table) for samples in batch]

    def follow(self, network: CascadeNetwork) -> None:
        """Take note of the weights after an optimiser step."""


class PseudoLabels(SeenLabels):
    """Self-training: labels of seen classes as they are, guesses among the unseen classes elsewhere."""

    def __init__(
        self,
        split: Split,
        config: SelfTrainingConfig,
        teacher: CascadeNetwork | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Choose who guesses, and where; at least one class of the split is unseen.

        `teacher` guesses, is frozen in place, and computes products in `dtype`; None: the network that trains guesses
        itself.
        """
        self.fed = tuple(range(len(split.classes)))
        self.unseen = split.unseen_indices
        self.hidden = self.unseen if config.location == "unknown" else ()
        self.config = config
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        # A fixed teacher is held by the run folder, as the model that the run started from.
        self.kept = self.teacher if config.teacher == "moving-average" else None
        self.dtype = dtype

    def label(self, batch: Sequence[TrainSample], passes: StudentPasses) -> list[Tensor]:
        """Labels with the teacher's guesses, on the device of the images."""
        logits = passes.ahead() if self.teacher is None else self._taught(self.teacher, passes)
        return [self._named(*pair) for pair in zip(batch, logits, strict=True)]

    @torch.no_grad()
    def follow(self, network: CascadeNetwork) -> None:
        """Move the average towards the weights."""
        if self.kept is None:
            return
        weights = network.own_tensors()
        for name, mean in self.kept.own_tensors().items():
            mean.lerp_(weights[name], 1 - self.config.decay)

    @torch.no_grad()
    def _taught(self, teacher: CascadeNetwork, passes: StudentPasses) -> list[Tensor]:
        device = passes.text.device
        with products_in(self.dtype, device):
            return [teacher(image, passes.text) for image in passes.images]

    def _named(self, samples: TrainSample, logits: Tensor) -> Tensor:
        labels = samples["label"].to(logits.device, non_blocking=True).long()
        where = None
        if self.config.location == "unknown":
            where = (labels == IGNORED) & _inside(samples["extent"].to(logits.device), labels.shape[-2:])
        return pseudo_labels(labels, logits, self.unseen, where=where, threshold=self.config.threshold)


def _inside(extent: Tensor, size: Sequence[int]) -> Tensor:
    """Pixels (B, H, W) bool that are no padding, from heights and widths (B, 2)."""
    rows, columns = (torch.arange(length, device=extent.device) for length in size)
    return (rows[:, None] < extent[:, 0, None, None]) & (columns < extent[:, 1, None, None])
