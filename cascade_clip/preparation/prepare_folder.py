"""Preparing own images with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cascade_clip.data.class_list_file import Colour, class_name_problems, parse_colour
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.errors import UserError
from cascade_clip.preparation.folder_pairs import choose_parts, pair_files
from cascade_clip.preparation.masks import ColourMasks, IndexMasks, PairLoader, ReadMask, colours_in_order
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import Sample
from cascade_clip.preparation.source_files import describe_file
from cascade_clip.progress import Progress


def prepare_folder(
    output: Path,
    *,
    name: str,
    images: Path,
    masks: Path,
    classes: Sequence[str],
    colours: Mapping[str, Colour] | None = None,
    ignore: Sequence[str] = (),
    first_index: int = 0,
    train_list: Path | None = None,
    val_list: Path | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DatasetInfo:
    """Prepare a folder of images and a folder of masks.

    Args:
        output: Folder of the prepared dataset.
        name: Name of the dataset.
        images: Folder of images, sub-folders included.
        masks: Folder of masks, matched by name (see `pair_files`).
        classes: Class names in label order, 1 to 255.
        colours: RGB of each class where the masks are in colours; unset: masks hold indices.
        ignore: Mask values ("0") that mean no class; with `colours`, colours ("#000000"). 255 is always ignored in
            index masks.
        first_index: Value of the first class in index masks.
        train_list: File with the ids for training (see `choose_parts`).
        val_list: File with the ids for validation.
        val_fraction: Share drawn for validation where there is no list, 0 to below 1.
        seed: Seed of that draw.
        workers: Processes.
        overwrite: Replace what is in `output`.
        progress: Called with (images done, images in all, file).

    Returns:
        What `dataset.json` says: counts, sizes, pixels of each class.

    Raises:
        UserError: Something is wrong with names, lists, pairs, or the files themselves; every problem with its file,
            and nothing is written.
    """
    problems = class_name_problems(classes)
    if problems:
        raise UserError("\n".join(problems))
    pairs = pair_files(images, masks)
    chosen = choose_parts(list(pairs), train_list=train_list, val_list=val_list, val_fraction=val_fraction, seed=seed)
    lists = [path for path in (train_list, val_list) if path]
    drawn: dict[str, float | int] = {} if lists else {"val_fraction": val_fraction, "seed": seed}
    return write_prepared(
        output,
        name=name,
        classes=classes,
        colours=colours_in_order(classes, colours) if colours else None,
        parts={part: [Sample(image_id, pairs[image_id]) for image_id in ids] for part, ids in chosen.items()},
        load=PairLoader(mask_reader(classes, colours, ignore, first_index)),
        options={"from": "folder", "first_index": first_index, "ignore": list(ignore), **drawn},
        sources=[describe_file(path) for path in lists],
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def mask_reader(
    classes: Sequence[str], colours: Mapping[str, Colour] | None, ignore: Sequence[str], first_index: int
) -> ReadMask:
    """Choose how masks are read: by index, or by colour where there is a colour table.

    Raises:
        UserError: `ignore` holds something else than mask values or colours, or the classes do not fit into 8 bits.
    """
    try:
        if colours:
            return ColourMasks(colours_in_order(classes, colours), frozenset(parse_colour(given) for given in ignore))
        values = frozenset(int(given) for given in ignore)
    except ValueError as error:
        expected = (
            'a colour such as "#000000", because there is a colour table' if colours else "a mask value of 0 to 255"
        )
        raise UserError(f"--ignore takes {expected}; got {', '.join(ignore)}.") from error
    if not all(0 <= value <= 255 for value in values):
        raise UserError(f"--ignore takes mask values of 0 to 255; got {', '.join(ignore)}.")
    if not 0 <= first_index <= 255 - len(classes):
        raise UserError(
            f"The first index {first_index} does not fit: {len(classes)} classes from there on must end below 255."
        )
    return IndexMasks(len(classes), first_index, values)
