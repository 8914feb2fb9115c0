"""Preparing a dataset of the Hub, or a folder in `imagefolder` or Parquet form."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Unpack

from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.foreign_records import (
    Columns,
    check_masks,
    choose_splits,
    convert_row,
    find_class_names,
    find_columns,
)
from cascade_clip.data.foreign_rows import ForeignRows, RowSource, SourceLostError
from cascade_clip.data.mask_values import MaskValues
from cascade_clip.errors import UserError, listed, readable
from cascade_clip.preparation.masks import index_masks, options_of_masks, review_classes
from cascade_clip.preparation.prepare_folder import choose_parts
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import remark_on_turned_mask, remarks_on_image, remarks_on_palette
from cascade_clip.preparation.shards import ImageSource, Loaded

log = logging.getLogger(__name__)


def prepare_hub(
    output: Path,
    *,
    source: str | Path,
    name: str | None = None,
    stream: bool = False,
    revision: str | None = None,
    config: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    train_split: str = "train",
    val_split: str | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    first_index: int = 0,
    mask_values: Sequence[int] | None = None,
    subset: int | None = None,
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare whatever `datasets.load_dataset` reads, as long as each row has an image and an index mask.

    With or without `stream`, and whatever `workers`, the same dataset gives the same bytes; images are kept as they are
    stored. A stream is written by this process alone; a run that was interrupted passes over the rows of finished
    shards.

    Args:
        source: A folder, `ORG/NAME` on the Hub or `hub:ORG/NAME[@REVISION]`.
        name: Name of the dataset; None: the source's own.
        stream: Write nothing to the disk but the output; without it the Hub's files are downloaded first.
        revision: Branch, tag or commit on the Hub.
        config: Name of a configuration, where the dataset has several.
        image_column: Column of images; None: found by type and name (see `find_columns`).
        label_column: Column of masks: one channel, class indices.
        train_split: Name of the training split.
        val_split: Name of the validation split; None: the one with a usual name, else a share is drawn.
        classes: Class names in label order; None: the dataset's own (see `find_class_names`).

    Other arguments are those of `prepare_folder`, result and errors those of `prepare_dataset.prepare`.
    """
    found = RowSource.find(source, revision=revision, config=config, stream=stream)
    rows = ForeignRows(found)
    splits = choose_splits(rows.splits, str(found), train=train_split, val=val_split)
    if others := [name for name in rows.splits if name not in splits.values()]:
        log.info("Of the splits of %s these are left out: %s.", found, listed(others))
    features = rows.features(train_split)
    columns = find_columns(features, str(found), image=image_column, label=label_column)
    names = classes or find_class_names(features, found)
    if names is None:
        raise UserError(f"{found} does not name its classes: give them with --classes or --classes-file.")
    if not stream:  # a stream that continues would be begun once more
        check_masks(rows, splits["train"], columns)
    parts = _samples(rows, splits, columns.image, val_fraction, seed)
    drawn: dict[str, float | int] = {} if "val" in splits else {"val_fraction": val_fraction, "seed": seed}
    masks = index_masks(names, ignore, first_index, mask_values)
    try:
        return write_prepared(
            output,
            name=name or found.name,
            classes=names,
            parts={part: samples[:subset] for part, samples in parts.items()},
            load=RowSampleLoader(rows, columns, masks),
            inputs=[found.place] if isinstance(found.place, Path) else [],
            options={
                "from": "hub",
                "source": found.name if isinstance(found.place, Path) else str(found),
                "config": config,
                "columns": [columns.image, columns.label],
                "splits": [splits[part] for part in splits],
                **options_of_masks(first_index, mask_values, ignore),
                "subset": subset,
                **drawn,
            },
            review=partial(review_classes, masks=masks),
            **writing | ({"workers": 1} if stream else {}),
        )
    except InterruptedSourceError as error:
        raise UserError(str(error)) from error


class InterruptedSourceError(Exception):
    """The source failed in the middle; unlike a row that is refused, this leaves finished shards."""


@dataclass(frozen=True)
class RowPlace:
    """A row of a split."""

    split: str
    index: int
    state: str
    """Digest of the split's files, so that a resumed run notices a change."""


@dataclass(frozen=True)
class RowSampleLoader:
    """Loads an `ImageSource` whose payload is a `RowPlace`."""

    rows: ForeignRows
    columns: Columns
    masks: MaskValues

    def __call__(self, sample: ImageSource) -> Loaded:
        """Load the image file's bytes and the label; see `cascade_clip.preparation.shards.Loader`."""
        place: RowPlace = sample.payload
        where = f'row {place.index} of split "{place.split}" of {self.rows.source}'
        try:
            row = convert_row(self.rows.row(place.split, place.index), self.columns, self.masks, where)
        except SourceLostError as error:
            raise InterruptedSourceError(str(error)) from error
        remarks = [
            *remarks_on_image(row.checked, f"The image of {where}"),
            *([remark_on_turned_mask(f"the mask of {where}")] if row.assumed else []),
            *remarks_on_palette(row.mask, self.masks.stored_values(row.label), where),
        ]
        return Loaded(row.image, row.label, remarks)


def _samples(
    rows: ForeignRows, splits: Mapping[Part, str], image_column: str, val_fraction: float, seed: int
) -> dict[Part, list[ImageSource]]:
    """Name the rows and divide them into parts."""
    named: dict[Part, dict[str, RowPlace]] = {}
    for part, split in splits.items():
        state = rows.state(split)
        ids = row_ids(rows.image_paths(split, image_column), rows.count(split), split)
        named[part] = {row_id: RowPlace(split, index, state) for index, row_id in enumerate(ids)}
    if "val" not in named:
        chosen = choose_parts(list(named["train"]), val_fraction=val_fraction, seed=seed)
        named = {part: {row_id: named["train"][row_id] for row_id in ids} for part, ids in chosen.items()}
    return {part: [ImageSource(row_id, place) for row_id, place in places.items()] for part, places in named.items()}


def row_ids(paths: Sequence[str] | None, count: int, split: str) -> list[str]:
    """Name rows after their image files, by path inside the folder without ending; else by split and row number."""
    numbered = [f"{split}-{index:06d}" for index in range(count)]
    if not paths:
        return numbered
    files = [path.partition("::")[0].replace("\\", "/").split("/") for path in paths]
    shared = len(os.path.commonprefix([file[:-1] for file in files]))  # noqa: RUF071  # of parts, not of characters
    ids = [readable("/".join([*file[shared:-1], file[-1].rpartition(".")[0] or file[-1]])) for file in files]
    return ids if len(set(ids)) == len(ids) else numbered
