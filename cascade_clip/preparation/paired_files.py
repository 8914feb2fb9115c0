"""Benchmarks whose parts are a folder of images and one of masks of the same names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark, get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import decode_label
from cascade_clip.data.mask_values import look_up
from cascade_clip.errors import UserError
from cascade_clip.preparation.masks import ImageWithMask, MaskLoader, ReadMask
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import Problem, refuse
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import check_counts, describe_archives
from cascade_clip.preparation.source_tree import Entry, SourceTree

PARTS: tuple[Part, Part] = ("train", "val")

Files = Mapping[str, Entry]
"""Files by the name that an image and its mask share, in order."""


@dataclass(frozen=True)
class NumberedMasks:
    """Reads masks that number classes in a benchmark's own way; a `ReadMask`."""

    table: NDArray[np.int16]
    """See `look_up`."""
    explanation: str
    """Which values there are, for messages."""

    def __call__(self, mask: Entry) -> NDArray[np.uint8]:
        """Read one mask; raises UserError where the file is broken, or holds a value that means no class."""
        return look_up(decode_label(mask.read(), str(mask)), self.table, str(mask), self.explanation)


@dataclass(frozen=True)
class PairedBenchmark:
    """Prepares a benchmark from official files; "{}" in names of files stands for the part or the image."""

    name: str
    find: Callable[[SourceTree, Part], tuple[Files, Files]]
    """Finds the images and the masks of a part."""
    read_mask: ReadMask
    image_archive: str
    mask_archive: str
    part: str = "{}"
    image: str = "{}.jpg"
    mask: str = "{}.png"

    def __call__(
        self,
        output: Path,
        *,
        source: Path,
        subset: int | None = None,
        name: str | None = None,
        **writing: Unpack[WriteOptions],
    ) -> DatasetInfo:
        """Prepare the benchmark; arguments, result and errors are those of `prepare_dataset.prepare`."""
        with SourceTree([source]) as tree:
            pairs = self._pair(tree, subset)
        split = get_split(self.name)
        files = [file for of_part in pairs.values() for pair in of_part.values() for file in (pair.image, pair.mask)]
        return write_prepared(
            output,
            name=name or self.name,
            classes=split.class_names,
            colours=split.colours,
            parts={part: [ImageSource(*pair) for pair in of_part.items()] for part, of_part in pairs.items()},
            load=MaskLoader(self.read_mask),
            options={"from": self.name, "subset": subset},
            inputs=sorted({(file.archive or file.container).parent for file in files}),
            sources=describe_archives(files),
            **writing,
        )

    def _pair(self, tree: SourceTree, subset: int | None) -> dict[Part, dict[str, ImageWithMask]]:
        """Pair images with masks by name, and compare their number with the published one."""
        title = benchmark(self.name).title
        found = {part: self.find(tree, part) for part in PARTS}
        kinds = (("images", self.image_archive), ("masks", self.mask_archive))
        missing = [
            f"{kind} of {self.part.format(part)} ({archive.format(part)})"
            for number, (kind, archive) in enumerate(kinds)
            for part in PARTS
            if not found[part][number]
        ]
        if missing:
            raise UserError(
                f"{title} is not complete in {tree.places}: there are no {', no '.join(missing)}. "
                "Put the official zips there, or what they unpack to."
            )
        refuse(
            [
                Problem(f"{mine[one]} has no {what} {name.format(one)}.", one, (str(mine[one]),))
                for images, masks in found.values()
                for mine, theirs, what, name in (
                    (images, masks, "mask", self.mask),
                    (masks, images, "image", self.image),
                )
                for one in mine
                if one not in theirs
            ]
        )
        if subset is None:
            counts = {part: len(images) for part, (images, _) in found.items()}
            check_counts(tree.places, counts, benchmark(self.name).counts)
        return {
            part: {one: ImageWithMask(images[one], masks[one]) for one in [*images][:subset]}
            for part, (images, masks) in found.items()
        }
