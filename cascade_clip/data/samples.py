"""Training samples by position: whatever the number of workers and processes, position p is always the same sample."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, default_collate

from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.loader_processes import BATCHES_AHEAD, prepare_process, processes_with_room
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.records import Record
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED

# Keeps the order of images apart from the augmentation, which is seeded with (seed, position).
_ORDER_STREAM = 1
_PIXEL_BYTES = 3 * 4 + 1
"""Of a sample: three float32 of its image and one byte of its label."""


class TrainSample(TypedDict):
    """One sample; collated into a micro-batch, every value gains a leading B."""

    image: torch.Tensor
    """(3, crop, crop) float32, normalised."""
    label: torch.Tensor
    """(crop, crop) uint8: class index 0..K-1 of the dataset, 255 = ignored."""
    extent: torch.Tensor
    """(2,) int64: height and width of what is no padding, from the top left corner."""
    id: str
    """Name of the image."""


class TrainSamples(Dataset[TrainSample]):
    """The endless sequence of training samples, addressed by position.

    Epoch e = p // n is a permutation of the n images that depends on (seed, e) alone; the augmentation of position p
    depends on (seed, p) alone. A run that continues at any step therefore sees exactly what an uninterrupted one does.

    A foreign dataset that is streamed cannot be permuted as a whole: there position p is row p mod n of the stream,
    shuffled by (seed, e) within a buffer. That too depends on nothing else; continuing skips the rows before.
    """

    def __init__(
        self, dataset: PreparedDataset, transform: TrainTransform, seed: int, *, hidden: Sequence[int] = ()
    ) -> None:
        """Combine a dataset's training part and an augmentation; raises UserError where there are no training images.

        Args:
            dataset: Prepared images.
            transform: Augmentation.
            seed: Decides order and augmentation.
            hidden: Classes whose labels are ignored from the start, so that not even the choice of a crop sees them.
        """
        if not dataset.count("train"):
            raise UserError(f"The dataset {dataset.place} has no training images.")
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.hidden = tuple(hidden)

    def __len__(self) -> int:
        """Images of an epoch; positions go on beyond it."""
        return self.dataset.count("train")

    def index_at(self, position: int) -> int:
        """Index of the training image at a position."""
        epoch, place = divmod(position, len(self))
        return int(_order(self.seed, epoch, len(self))[place])

    def __getitem__(self, position: int) -> TrainSample:
        """Make the sample of a position, 0 or more; raises UserError where the shard or the image is damaged."""
        record = self._record(position)
        label = decode_label(record.label_bytes, name=f"The label of {record.id} in {self.dataset.place}")
        if self.hidden:
            label = np.where(np.isin(label, self.hidden), np.uint8(IGNORED), label)
        crop = self.transform(
            open_image(record.image_bytes, name=f"{record.id} in {self.dataset.place}"),
            label,
            np.random.default_rng([self.seed, position]),
        )
        return {
            "image": torch.from_numpy(crop.image),
            "label": torch.from_numpy(crop.label),
            "extent": torch.tensor(crop.extent),
            "id": record.id,
        }

    def _record(self, position: int) -> Record:
        if self.dataset.streams:
            return self.dataset.read_shuffled(self.seed, *divmod(position, len(self)))
        return self.dataset.read("train", self.index_at(position))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, _ORDER_STREAM]).permutation(count)


def _micro_batches(steps: range, batch: int, rank: int, world: int, most: int) -> Iterator[list[int]]:
    """Positions of each micro-batch of one process, step by step."""
    share = batch // world
    for step in steps:
        first = step * batch + rank * share
        for start in range(first, first + share, most):
            yield list(range(start, min(start + most, first + share)))


class _Batches(Dataset[TrainSample]):
    """Samples a batch at a time, with an error of the user as a value.

    An exception that leaves a worker process arrives in the main process as another one, whose message is a traceback.
    """

    def __init__(self, samples: TrainSamples) -> None:
        self.samples = samples

    def __getitems__(self, positions: Sequence[int]) -> list[TrainSample] | UserError:
        try:
            return [self.samples[position] for position in positions]
        except UserError as error:
            return error


def _collate(batch: list[TrainSample] | UserError) -> TrainSample | UserError:
    return batch if isinstance(batch, UserError) else default_collate(batch)


class _TrainLoader(DataLoader[TrainSample]):
    """A DataLoader of `_Batches` that raises the errors among its batches."""

    def __iter__(self) -> Iterator[TrainSample]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def train_loader(
    samples: TrainSamples,
    *,
    start_step: int,
    steps: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    micro_batch: int | None = None,
    workers: int = 0,
) -> DataLoader[TrainSample]:
    """Load the micro-batches of one process in order, from `start_step` to before step `steps`.

    Step s consumes the positions s x batch .. (s + 1) x batch - 1. They are split evenly over the `world` processes in
    order of rank, and each process's share into micro-batches (None: one), the last of which may be smaller. No global
    random state is touched. Of `workers` loader processes those are used that have room (see `processes_with_room`), of
    a stream one at most: each would have to read all of it. 0 loads in this process.

    Gives dictionaries: image (B, 3, crop, crop) float32, label (B, crop, crop) uint8, extent (B, 2) int64, id list of B
    strings. Raises UserError where `batch` cannot be split evenly; while loading also what `TrainSamples` raises.
    """
    if batch % world:
        raise UserError(
            f"The batch of {batch} images cannot be split evenly over {world} processes; choose a multiple of {world}."
        )
    together = min(micro_batch or batch, batch // world)
    positions = _micro_batches(range(start_step, steps), batch, rank, world, together)
    workers = min(workers, 1) if samples.dataset.streams else workers
    workers = processes_with_room(workers, together * _PIXEL_BYTES * samples.transform.config.crop**2, world)
    return _TrainLoader(
        _Batches(samples),
        batch_sampler=positions,
        num_workers=workers,
        prefetch_factor=BATCHES_AHEAD if workers else None,
        worker_init_fn=prepare_process,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_collate,
        # Without a generator of its own the loader would draw from torch's global one, and dropout would differ after
        # resuming.
        generator=torch.Generator(),
    )
