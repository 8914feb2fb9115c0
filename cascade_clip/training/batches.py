"""The micro-batches of every step, of images or of what a frozen encoder made of them before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from accelerate import Accelerator
from torch.utils.data import DataLoader

from cascade_clip.config.schema import Recipe
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSample, TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.model.clip.image_encoder import ImageEncoder
from cascade_clip.training.run_folder import RunFolder


class StepBatches:
    """What one process trains on, step by step from any step on."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: PreparedDataset,
        run: RunFolder,
        accelerator: Accelerator,
        *,
        hidden: Sequence[int] = (),
    ) -> None:
        """Name where samples come from.

        Args:
            recipe: Augmentation, seed, batch, and whether features are kept.
            dataset: Prepared images; the training part counts.
            run: Its folder takes kept features.
            accelerator: Processes, of which this is one.
            hidden: Classes whose labels are ignored from the start.

        Raises:
            UserError: There are no training images.
        """
        self.config, self.accelerator = recipe.train, accelerator
        self.samples = TrainSamples(dataset, TrainTransform(recipe.data), recipe.seed, hidden=hidden)

    def loader(self, start: int = 0) -> DataLoader[TrainSample]:
        """All micro-batches of this process from a step on.

        Raises:
            UserError: The batch cannot be dealt to the processes.
        """
        return train_loader(
            self.samples,
            start_step=start,
            steps=self.config.iterations,
            batch=self.config.batch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            micro_batch=self.config.micro_batch,
            workers=self.config.workers,
        )

    def steps(self, start: int, encoder: ImageEncoder) -> Iterator[list[TrainSample]]:
        """The micro-batches of one step after the other, as lists.

        Args:
            start: Steps that are done.
            encoder: Makes the features that are kept, before the first of these steps.

        Raises:
            UserError: Damaged data, or no room for features.
        """
        share = self.config.batch // self.accelerator.num_processes
        together = min(self.config.micro_batch or share, share)
        stream = iter(self.loader(start))
        for _ in range(start, self.config.iterations):
            yield [next(stream) for _ in range(math.ceil(share / together))]
