"""How masks of one's own are read, and whether what they hold can have been meant."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from cascade_clip.data.class_list_file import Colour, parse_colour
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import decode_label
from cascade_clip.errors import UserError, counted, repr_name
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.masks import ColourMasks, IndexMasks, ReadMask, colours_in_order
from cascade_clip.preparation.source_tree import Entry

# With so few classes, masks of 0 and 255 are pictures in black and white rather than one class and pixels of none.
_FEW_CLASSES = 2
_NAMES_SHOWN = 5
_MASKS_LOOKED_AT = 8

log = logging.getLogger(__name__)


def mask_reader(
    classes: Sequence[str],
    colours: Mapping[str, Colour] | None,
    ignore: Sequence[str],
    first_index: int,
    mask_values: Sequence[int] | None = None,
) -> ReadMask:
    """Choose how masks are read: by index, or by colour where there is a colour table.

    Raises UserError where `ignore` holds something else than mask values or colours, or the values of the classes do
    not fit.
    """
    if not colours:
        return index_masks(classes, ignore, first_index, mask_values)
    if mask_values is not None:
        raise UserError("--mask-values are the classes of index masks; with a colour table, colours tell the class.")
    try:
        return ColourMasks(colours_in_order(classes, colours), frozenset(parse_colour(given) for given in ignore))
    except ValueError as error:
        raise UserError(
            f'--ignore takes a colour such as "#000000", because there is a colour table; got {", ".join(ignore)}.'
        ) from error


def index_masks(
    classes: Sequence[str], ignore: Sequence[str], first_index: int, mask_values: Sequence[int] | None = None
) -> IndexMasks:
    """Masks of class indices; raises UserError where the values of the classes, or those of none, do not fit."""
    ignored = frozenset(int(given) if given.strip().isdecimal() else -1 for given in ignore)
    if not all(0 <= value <= 255 for value in ignored):
        raise UserError(f"--ignore takes mask values of 0 to 255; got {', '.join(ignore)}.")
    if mask_values is not None:
        _check_mask_values(classes, mask_values, ignored, first_index)
        return IndexMasks(len(classes), ignore=ignored, values=tuple(mask_values))
    if not 0 <= first_index <= 255 - len(classes):
        raise UserError(
            f"The first index {first_index} does not fit: the values of"
            f" {counted(len(classes), 'class')} from there on must end below 255."
        )
    return IndexMasks(len(classes), first_index, ignored)


def _check_mask_values(
    classes: Sequence[str], values: Sequence[int], ignored: frozenset[int], first_index: int
) -> None:
    given = f"--mask-values {','.join(map(str, values))}"
    if first_index:
        raise UserError(f"{given} and --first-index {first_index} say two things; give one of them.")
    if len(values) != len(classes):
        raise UserError(
            f"{given} has {counted(len(values), 'value')} for {counted(len(classes), 'class')};"
            " give one for each, in order."
        )
    if len(set(values)) < len(values) or not all(0 <= value <= 255 for value in values):
        raise UserError(f"{given} must be different values of 0 to 255.")
    if both := ignored & set(values):
        raise UserError(f"{given} and --ignore {min(both)} say two things of the value {min(both)}.")


def check_formats(masks: Sequence[Entry]) -> None:
    """Look at a few masks of indices before the work begins; raises the first's UserError if none of them is one."""
    few = masks[:: -(-len(masks) // _MASKS_LOOKED_AT)]
    errors = [error for mask in few if (error := _format_error(mask))]
    if errors and len(errors) == len(few):
        raise errors[0]


def _format_error(mask: Entry) -> UserError | None:
    try:
        decode_label(mask.read(), str(mask))
    except UserError as error:
        return error
    return None


def options_of_masks(
    first_index: int, mask_values: Sequence[int] | None, ignore: Sequence[str]
) -> dict[str, int | list[str]]:
    """How masks are read, as `dataset.json` records it."""
    given = {} if mask_values is None else {"mask_values": [str(value) for value in mask_values]}
    return {"first_index": first_index, "ignore": list(ignore), **given}


def review_classes(info: DatasetInfo, masks: IndexMasks | None) -> None:
    """Look for masks whose values were not meant as they were read; `masks` is None for masks in colours.

    Raises UserError where no pixel has a class; or there are one or two classes, and the pixels of one have the value
    255.
    """
    pixels = [sum(part.pixels[index] for part in info.parts.values()) for index in range(len(info.classes))]
    if not any(pixels):
        raise UserError("No pixel of the masks has a class; all are ignored. Check the values of the masks.")
    told = masks is None or masks.values is not None or masks.ignore
    empty = [name for name, count in zip(info.classes, pixels, strict=True) if not count]
    if told or not any(part.ignored_pixels for part in info.parts.values()):
        return
    one_class = len(info.classes) == 1
    if one_class or (empty and len(info.classes) <= _FEW_CLASSES):
        found = f"every other pixel is {repr_name(info.classes[0])}" if one_class else f"none is {repr_name(empty[0])}"
        way_out = f"{IGNORED} --ignore 0" if one_class else f"0,{IGNORED}"
        raise UserError(
            f"Pixels of the masks have the value {IGNORED}, which means no class, and {found}. If it is a class, say "
            f"which value each class has, as in --mask-values {way_out}. If it means no class, give --ignore {IGNORED}."
        )
    if empty:
        shown = ", ".join(map(repr_name, empty[:_NAMES_SHOWN])) + (" ..." if len(empty) > _NAMES_SHOWN else "")
        log.warning(
            "No mask holds %s, while the value %d occurs, which means no class. If it is one of them, say which value "
            "each class has: --mask-values 0,1,...",
            *(shown, IGNORED),
        )
