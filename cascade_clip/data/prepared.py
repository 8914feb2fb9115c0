"""Reading a prepared dataset; writing one is `cascade_clip.preparation.prepared_writer`.

See cascade_clip/README.md, section 4.1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cascade_clip.data.dataset_info import DatasetInfo, Part, read_dataset_info
from cascade_clip.data.dataset_location import read_link
from cascade_clip.data.records import LocalShards, Record, RecordReader, StreamReader, check_shard_files
from cascade_clip.errors import UserError, counted
from cascade_clip.files import composed


class PreparedDataset:
    """Random access to the records of a prepared dataset; picklable, so that loader processes may hold one each."""

    def __init__(
        self, folder: Path, info: DatasetInfo, reader: RecordReader | None = None, place: str | None = None
    ) -> None:
        self.folder = folder
        self.info = info
        self.place = place or str(folder)
        """Name of the dataset in messages: its folder, or the address or folder that a link stands for."""
        self._reader = reader or LocalShards(folder, info)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a prepared dataset and check that its shards are complete; those of a link (`dataset_folder`) as they
        are read.

        Raises UserError where the folder is no prepared dataset, or a shard is missing or cut off.
        """
        folder = Path(folder)
        info = read_dataset_info(folder)
        link = read_link(folder)
        if link is not None:
            return cls(folder, info, link.reader(info), link.place)
        check_shard_files(folder, info)
        return cls(folder, info)

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.info.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.info.classes

    def count(self, part: Part) -> int:
        """Number of images in "train" or "val"; 0 where the dataset has no such part."""
        content = self.info.parts.get(part)
        return content.images if content else 0

    def check_classes(self, class_names: Sequence[str], split: str) -> None:
        """Compare the classes with those of a split, in label order; raises UserError where they differ.

        Both Unicode forms of a name are the same name.
        """
        expected = tuple(class_names)
        if [*map(composed, self.class_names)] == [*map(composed, expected)]:
            return
        if len(self.class_names) != len(expected):
            difference = f"it has {counted(len(self.class_names), 'class')}, the split {len(expected)}"
        else:
            at = next(i for i, (a, b) in enumerate(zip(self.class_names, expected, strict=True)) if a != b)
            difference = f'its class {at} is "{self.class_names[at]}", the split\'s is "{expected[at]}"'
        raise UserError(
            f'The dataset {self.place} does not hold the classes of the split "{split}": {difference}.'
            " Give a split with the dataset's classes in its order, or the dataset that the split was made for."
        )

    def read(self, part: Part, index: int) -> Record:
        """Read record 0 .. count(part) - 1; raises UserError where its shard is damaged or cannot be reached."""
        if not 0 <= index < self.count(part):
            raise IndexError(f"{part} has {counted(self.count(part), 'image')}, index {index} is outside")
        return self._reader.read(part, index)

    @property
    def streams(self) -> bool:
        """Whether training images come in the order of a stream (`read_shuffled`) instead of by index."""
        return isinstance(self._reader, StreamReader)

    def read_shuffled(self, seed: int, epoch: int, place: int) -> Record:
        """Read the training record at a place, 0 .. count("train") - 1, of an epoch of a dataset that `streams`.

        Seed and epoch decide the order; going back starts the stream again. Raises UserError where the stream broke off
        or ended early, or the record cannot be used.
        """
        if not isinstance(self._reader, StreamReader):
            raise TypeError(f"{self.place} is read by index")
        return self._reader.read_shuffled(seed, epoch, place)
