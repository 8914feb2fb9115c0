"""Turning mask files into labels: class index 0..K-1, 255 = ignored; and whether what they hold can have been meant."""

import io
import logging
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.class_list_file import Colour, parse_colour
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import check_image, decode_label, mask_colours, orientation_of
from cascade_clip.data.mask_values import MaskValues, UnknownValuesError, fit_label
from cascade_clip.errors import UserError, counted, repr_name
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.problems import remark_on_turned_mask, remarks_on_image, remarks_on_palette
from cascade_clip.preparation.shards import ImageSource, Loaded
from cascade_clip.preparation.source_tree import Entry

ReadMask = Callable[[Entry], NDArray[np.uint8]]
"""Reads a mask file as label (H, W) uint8; raises UserError, naming the file."""

MATLAB = "scipy.io.matlab"
"""Module that reads MATLAB files, see `import_extra`."""

# What SciPy raises on broken files, beside its own MatReadError.
_MAT_ERRORS = (EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError, struct.error, zlib.error)

# With so few classes, masks of 0 and 255 are pictures in black and white rather than one class and pixels of none.
_FEW_CLASSES = 2
_NAMES_SHOWN = 5
_MASKS_LOOKED_AT = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageWithMask:
    """An image file with its mask: an `Entry`, or anything else that `read_mask` takes and `str` can name."""

    image: Entry
    mask: Any


@dataclass(frozen=True)
class MaskLoader:
    """Loads an `ImageSource` whose payload is an `ImageWithMask`: checks the image, reads the mask, compares sizes."""

    read_mask: Callable[[Any], NDArray[np.uint8]]

    def __call__(self, source: ImageSource) -> Loaded:
        """Load the image file's bytes and the label; see `cascade_clip.preparation.shards.Loader`."""
        pair: ImageWithMask = source.payload
        content = pair.image.read()
        image_name, mask_name = str(pair.image), str(pair.mask)
        image = check_image(content, image_name)
        label = self.read_mask(pair.mask)
        label, assumed = fit_label(label, image, lambda: _orientation(pair.mask), mask_name, f"its image {image_name}")
        remarks = [*remarks_on_image(image, image_name), *([remark_on_turned_mask(mask_name)] if assumed else [])]
        # The palettes of a benchmark's masks are known.
        if type(self.read_mask) is IndexMasks:
            remarks += remarks_on_palette(pair.mask.read(), self.read_mask.stored_values(label), mask_name)
        return Loaded(content, label, remarks)


def _orientation(mask: Any) -> int:
    return orientation_of(mask.read()) if isinstance(mask, Entry) else 1


class IndexMasks(MaskValues):
    """Reads single-channel masks that hold class indices; a `ReadMask`."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file."""
        return self.to_labels(decode_label(entry.read(), str(entry)), str(entry))


@dataclass(frozen=True)
class ColourMasks:
    """Reads RGB masks in which each class has its colour; a `ReadMask`."""

    colours: tuple[Colour, ...]
    """In label order."""
    ignore: frozenset[Colour] = frozenset()
    """Colours that become 255."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file."""
        red, green, blue = np.moveaxis(mask_colours(entry.read(), str(entry)).astype(np.int32), -1, 0)
        packed = red << 16 | green << 8 | blue
        codes, labels = self._codes
        place = np.searchsorted(codes, packed).clip(0, len(codes) - 1)
        unknown = codes[place] != packed
        if unknown.any():
            found_colours = [f"#{code:06x}" for code in np.unique(packed[unknown])]
            way_out = "add it to the colour table, or ignore it with --ignore '#rrggbb'."
            raise UnknownValuesError.of(str(entry), "colour", found_colours, way_out)
        return labels[place]

    @cached_property
    def _codes(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """All known colours as 24-bit numbers, rising, with their labels."""
        table = {colour: label for label, colour in enumerate(self.colours)} | dict.fromkeys(self.ignore, IGNORED)
        entries = sorted((red << 16 | green << 8 | blue, label) for (red, green, blue), label in table.items())
        return np.array([code for code, _ in entries], np.int32), np.array([label for _, label in entries], np.uint8)


def colours_in_order(classes: Sequence[str], colours: Mapping[str, Colour]) -> tuple[Colour, ...]:
    """Sort a colour table by class; raises UserError where a class has no colour, or a colour no class."""
    without = [name for name in classes if name not in colours]
    unknown = [name for name in colours if name not in classes]
    if without or unknown:
        first = f"The colour table has no colour for {', '.join(without)}. " if without else ""
        second = f"The colour table names {', '.join(unknown)}, which is no class." if unknown else ""
        raise UserError((first + second).strip())
    return tuple(colours[name] for name in classes)


def import_extra(module: str, files: str, extra: str = "data") -> Any:
    """Import a module that an extra brings; raises UserError where it is not installed.

    Asked before a preparation begins, it spares one message an image.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{files} need {package}: pip install 'cascade-clip[{extra}]'.") from error


def checked_run_lengths(coco: Any, counts: Sequence[int] | str, height: int, width: int) -> dict[str, Any]:
    """COCO's run lengths, plain or as text, as `coco` (pycocotools.mask) decodes them.

    Raises ValueError where they are of another image: pycocotools would leave pixels as they were in memory.
    """
    plain = _counts_in(counts.encode("ascii")) if isinstance(counts, str) else counts
    if min(plain, default=-1) < 0 or sum(plain) != height * width:
        raise ValueError(f"its run lengths are not those of {width} x {height} pixels")
    return coco.frPyObjects({"size": [height, width], "counts": plain}, height, width)


def _counts_in(code: bytes) -> list[int]:
    """Run lengths out of COCO's text: 5 bits a character, from the third on as differences to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for bits in (character - 48 for character in code):
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) * (bits >> 4 & 1)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def read_mat(entry: Entry, dataset: str, take: Callable[[dict[str, Any]], object], largest: int) -> NDArray[np.int64]:
    """Read a label map (H, W) int64, 0 to `largest`, that `take` gives of a MATLAB file's variables.

    Raises UserError where SciPy is missing, or the file cannot be read, is broken, or holds something else; messages
    say whose file it is by `dataset`.
    """
    matlab = import_extra(MATLAB, f"The .mat files of {dataset}")
    content = entry.read()
    try:
        stored = np.asarray(take(matlab.loadmat(io.BytesIO(content))))
        if stored.ndim != 2 or stored.size == 0 or stored.dtype.kind not in "uif":
            raise ValueError(f"it holds {stored.shape} {stored.dtype}")
    except (*_MAT_ERRORS, matlab.MatReadError) as error:
        raise UserError(f"{entry} cannot be read as a label map of {dataset} ({error}).") from error
    with np.errstate(invalid="ignore"):
        labels = stored.astype(np.int64)
    if stored.min() < 0 or stored.max() > largest or not np.array_equal(labels, stored):
        raise UserError(
            f"{entry} holds numbers from {stored.min()} to {stored.max()}; "
            f"label maps of {dataset} have whole numbers of 0 to {largest}."
        )
    return labels


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
        ignored = frozenset(map(parse_colour, ignore))
    except ValueError as error:
        raise UserError(
            f'--ignore takes a colour such as "#000000", because there is a colour table; got {", ".join(ignore)}.'
        ) from error
    in_order = colours_in_order(classes, colours)
    _tell_of_ignored(dict(zip(in_order, classes, strict=True)), ignored)
    return ColourMasks(in_order, ignored)


def _tell_of_ignored(name_of: Mapping[Any, str], ignored: frozenset[Any], first_index: int | None = None) -> None:
    for value in sorted(ignored & name_of.keys()):
        counted_from_1 = " If the classes count from 1, give --first-index 1." if first_index == 0 else ""
        log.warning(
            '--ignore takes the pixels of "%s", so that the dataset has none of this class.%s',
            name_of[value],
            counted_from_1,
        )


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
    _tell_of_ignored(dict(zip(range(first_index, 256), classes, strict=False)), ignored, first_index)
    return IndexMasks(len(classes), first_index, ignored)


def _check_mask_values(
    classes: Sequence[str], values: Sequence[int], ignored: frozenset[int], first_index: int
) -> None:
    given = f"--mask-values {','.join(map(str, values))}"
    if first_index:
        raise UserError(f"{given} and --first-index {first_index} contradict each other; give one of them.")
    if len(values) != len(classes):
        raise UserError(
            f"{given} has {counted(len(values), 'value')} for {counted(len(classes), 'class')};"
            " give one for each, in order."
        )
    if len(set(values)) < len(values) or not all(0 <= value <= 255 for value in values):
        raise UserError(f"{given} must be different values of 0 to 255.")
    if both := ignored & set(values):
        raise UserError(f"{given} and --ignore {min(both)} contradict each other about the value {min(both)}.")


def check_formats(masks: Sequence[Entry]) -> None:
    """Look at a few masks of indices before the work begins; raises the UserError of the first if none can be read."""
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
