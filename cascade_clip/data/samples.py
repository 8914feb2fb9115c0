"""Training samples by position: whatever the number of workers and processes, position p is always the same sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.records import Record
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED

# Keep the order of images and the crops that come again apart from what is drawn anew, which is seeded with
# (seed, position).
_ORDER_STREAM = 1
_VIEW_STREAM = 2


class View(NamedTuple):
    """One of the crops of an image that come again (`data.views`)."""

    image: int
    """The image's place in the training part."""
    number: int
    """Which of its crops, 0 .. views - 1."""


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
    depends on (seed, p) alone, or with V views on (seed, image, e mod V). A run that continues at any step therefore
    sees exactly what an uninterrupted one does.

    A foreign dataset that is streamed cannot be permuted as a whole: there position p is the (p mod n)-th row of the
    stream, shuffled by (seed, e) within a buffer. That too depends on nothing else; continuing skips what comes before.
    """

    def __init__(
        self, dataset: PreparedDataset, transform: TrainTransform, seed: int, *, hidden: Sequence[int] = ()
    ) -> None:
        """Name where samples come from.

        Args:
            dataset: Prepared images; the training part counts.
            transform: Augmentation.
            seed: Decides order and augmentation.
            hidden: Classes whose labels are ignored from the start, so that not even the choice of a crop sees them.

        Raises:
            UserError: There are no training images.
        """
        if not dataset.count("train"):
            raise UserError(f"The dataset {dataset.place} has no training images.")
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.hidden = tuple(hidden)
        self.views: int | None = None

    def __len__(self) -> int:
        """Images of an epoch; positions go on beyond it."""
        return self.dataset.count("train")

    def index_at(self, position: int) -> int:
        """Which image of the training part stands at a position."""
        epoch, place = divmod(position, len(self))
        return int(_order(self.seed, epoch, len(self))[place])

    def view_at(self, position: int) -> View | None:
        """Which crop of which image stands at a position; none where crops never come again."""
        return View(self.index_at(position), position // len(self) % self.views) if self.views else None

    def __getitem__(self, position: int) -> TrainSample:
        """Make the sample of a position.

        Args:
            position: 0 or more; batch b of size B holds the positions b B .. (b + 1) B - 1.

        Returns:
            The sample.

        Raises:
            UserError: The shard or the image is damaged.
        """
        record = self._record(position)
        label = decode_label(record.label_bytes, name=f"The label of {record.id} in {self.dataset.place}")
        if self.hidden:
            label = np.where(np.isin(label, self.hidden), np.uint8(IGNORED), label)
        crop = self.transform(
            open_image(record.image_bytes, name=f"{record.id} in {self.dataset.place}"),
            label,
            self._generator(position),
        )
        return {
            "image": torch.from_numpy(crop.image),
            "label": torch.from_numpy(crop.label),
            "extent": torch.tensor(crop.extent),
            "id": record.id,
        }

    def _generator(self, position: int) -> np.random.Generator:
        view = self.view_at(position)
        return np.random.default_rng([self.seed, position] if view is None else [self.seed, *view, _VIEW_STREAM])

    def _record(self, position: int) -> Record:
        if self.dataset.streams:
            return self.dataset.read_shuffled(self.seed, *divmod(position, len(self)))
        return self.dataset.read("train", self.index_at(position))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, _ORDER_STREAM]).permutation(count)


class _MicroBatches(Sampler[list[int]]):
    """Positions of each micro-batch of one process, step by step."""

    def __init__(self, steps: range, *, batch: int, rank: int, world: int, micro_batch: int) -> None:
        self.steps = steps
        self.batch = batch
        self.share = batch // world
        self.offset = rank * self.share
        self.micro_batch = micro_batch

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch + self.offset
            for start in range(first, first + self.share, self.micro_batch):
                yield list(range(start, min(start + self.micro_batch, first + self.share)))

    def __len__(self) -> int:
        return len(self.steps) * -(-self.share // self.micro_batch)


class _TrainLoader(DataLoader[TrainSample]):
    """A DataLoader that passes a UserError on without the traceback that a worker process wraps around it."""

    def __iter__(self) -> Iterator[TrainSample]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except UserError as error:
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error


class SampleSource(Protocol):
    """Samples by position, of a prepared dataset."""

    dataset: PreparedDataset

    def __getitem__(self, position: int) -> TrainSample:
        """Make the sample of a position."""
        ...


Collate = Callable[[Sequence[TrainSample]], TrainSample]


def train_loader(
    samples: SampleSource,
    *,
    start_step: int,
    steps: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    micro_batch: int | None = None,
    workers: int = 0,
    collate: Collate | None = None,
) -> DataLoader[TrainSample]:
    """Load the micro-batches of one process in order, from one step to another.

    Step s consumes the positions s x batch .. (s + 1) x batch - 1. They are split evenly over the processes in order of
    rank, and each process's share into micro-batches, the last of which may be smaller. No global random state is
    touched.

    Args:
        samples: The samples.
        start_step: First step, 0 or the step at which a run continues.
        steps: The step before which loading ends, so `train.iterations`.
        batch: Images a step over all processes.
        rank: This process, 0 .. world - 1.
        world: Number of processes.
        micro_batch: Most images at once; None: the whole share.
        workers: See `batches_of`.
        collate: See `batches_of`.

    Returns:
        A loader of dictionaries: image (B, 3, crop, crop) float32, label (B, crop, crop) uint8, extent
        (B, 2) int64, id list of B strings.

    Raises:
        UserError: `batch` cannot be split evenly over the processes.
    """
    if batch % world:
        raise UserError(
            f"The batch of {batch} images cannot be split evenly over {world} processes; choose a multiple of {world}."
        )
    positions = _MicroBatches(
        range(start_step, steps), batch=batch, rank=rank, world=world, micro_batch=micro_batch or batch // world
    )
    return batches_of(samples, positions, workers=workers, collate=collate)


def batches_of(
    samples: SampleSource, positions: Iterable[list[int]], *, workers: int = 0, collate: Collate | None = None
) -> DataLoader[TrainSample]:
    """Load batches of given positions in order.

    Args:
        samples: The samples.
        positions: Those of each batch.
        workers: Loader processes; 0 loads in this process. A foreign dataset that is streamed takes one at most: each
            would have to read the whole stream.
        collate: Puts samples together; none: PyTorch's own way.
    """
    return _TrainLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=positions,
        num_workers=min(workers, 1) if samples.dataset.streams else workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
        # Without a generator of its own the loader would draw from torch's global one, and dropout would differ after
        # resuming.
        generator=torch.Generator(),
    )
