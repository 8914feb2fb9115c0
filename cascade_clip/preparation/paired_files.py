"""Benchmarks whose parts are a folder of images and one of masks: pairing the files, and writing the pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.errors import UserError
from cascade_clip.preparation.masks import ImageWithMask, MaskLoader
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import Problem, refuse
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import check_counts, describe_archives
from cascade_clip.preparation.source_tree import Entry

PARTS: tuple[Part, Part] = ("train", "val")

Pairs = dict[Part, list[ImageSource]]
"""Images of each part; their payload is an `ImageWithMask`."""


@dataclass(frozen=True)
class Naming:
    """What the files of a benchmark are called, for messages; "{}" stands for the part or the image."""

    title: str
    image_archive: str
    mask_archive: str
    part: str = "{}"
    image: str = "{}.jpg"
    mask: str = "{}.png"


def pair_files(
    places: str,
    images: Mapping[Part, Mapping[str, Entry]],
    masks: Mapping[Part, Mapping[str, Entry]],
    *,
    naming: Naming,
    published: Mapping[str, int],
    subset: int | None,
) -> Pairs:
    """Pair images with the masks of the same name, in order, and compare their number with the published one.

    Args:
        places: Where the files were looked for, for messages.
        images: Images of each part by name.
        masks: Masks likewise.
        naming: For messages.
        published: Images of each part in a complete copy.
        subset: Take only the first so many images of each part, and do not compare numbers.

    Raises:
        UserError: A part has no images or no masks, a file has no partner (all are named), or the numbers differ.
    """
    kinds = (("images", images, naming.image_archive), ("masks", masks, naming.mask_archive))
    missing = [
        f"{kind} of {naming.part.format(part)} ({archive.format(part)})"
        for kind, files, archive in kinds
        for part in PARTS
        if not files[part]
    ]
    if missing:
        raise UserError(
            f"{naming.title} is not complete in {places}: there are no {', no '.join(missing)}. "
            "Put the official zips there, or what they unpack to."
        )
    refuse(
        [
            Problem(f"{mine[stem]} has no {what} {name.format(stem)}.", stem, (str(mine[stem]),))
            for part in PARTS
            for mine, theirs, what, name in (
                (images[part], masks[part], "mask", naming.mask),
                (masks[part], images[part], "image", naming.image),
            )
            for stem in mine
            if stem not in theirs
        ]
    )
    if subset is None:
        check_counts(places, {part: len(images[part]) for part in PARTS}, published)
    return {
        part: [
            ImageSource(stem, ImageWithMask(images[part][stem], masks[part][stem])) for stem in [*images[part]][:subset]
        ]
        for part in PARTS
    }


def write_pairs(
    output: Path,
    pairs: Pairs,
    read_mask: Callable[[Entry], NDArray[np.uint8]],
    *,
    dataset: str,
    name: str,
    subset: int | None,
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Write the prepared dataset of a benchmark with its classes and colours; see `write_prepared`."""
    split = get_split(dataset)
    files: list[ImageWithMask] = [image.payload for images in pairs.values() for image in images]
    return write_prepared(
        output,
        name=name,
        classes=split.class_names,
        colours=split.colours,
        parts=pairs,
        load=MaskLoader(read_mask),
        options={"from": dataset, "subset": subset},
        inputs=sorted({(one.archive or one.container).parent for pair in files for one in (pair.image, pair.mask)}),
        sources=describe_archives(entry for pair in files for entry in (pair.image, pair.mask)),
        **writing,
    )
