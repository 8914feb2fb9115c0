"""Preparing images that were labelled elsewhere: COCO JSON, YOLO polygons, CVAT's colour masks, Label Studio."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.class_list_file import Colour
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import check_image
from cascade_clip.data.mask_values import fit_label
from cascade_clip.errors import UserError, closest, counted
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.annotations import (
    AnnotatedImage,
    Annotations,
    Region,
    explained,
    pycocotools,
    read_annotations,
)
from cascade_clip.preparation.masks import ColourMasks, ImageWithMask, MaskLoader, checked_run_lengths, import_extra
from cascade_clip.preparation.prepare_folder import choose_parts
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import remark_on_turned_mask
from cascade_clip.preparation.shards import ImageSource, Loaded
from cascade_clip.preparation.source_files import describe_file
from cascade_clip.preparation.source_tree import Entry

log = logging.getLogger(__name__)

_RunLengths = dict[str, Any]

_BEYOND = 0.1
"""By what share of a side a polygon may reach beyond the image; numbers that are no shares reach farther."""


@dataclass(frozen=True)
class AnnotationLoader:
    """Paints the label (H, W) of an `ImageSource` whose payload is an `AnnotatedImage`.

    Where regions overlap, the smaller one lies on top: it would be lost below the larger.
    """

    labels: Mapping[str, int]
    """Label of each class name."""
    rest: int
    """Label of pixels in no region."""
    read_mask: ColourMasks | None = None

    def __call__(self, source: ImageSource) -> Loaded:
        """Load the image file's bytes and its label; see `cascade_clip.preparation.shards.Loader`."""
        found: AnnotatedImage = source.payload
        if found.mask is not None and self.read_mask is not None:
            return MaskLoader(self.read_mask)(ImageSource(source.id, ImageWithMask(found.image, found.mask)))
        content, name = found.image.read(), str(found.image)
        image = check_image(content, name)
        height, width = found.size or image.size
        label = np.full((height, width), self.rest, np.uint8)
        run_lengths = pycocotools()
        coded = [(region.name, _run_lengths(region, height, width, found.image)) for region in found.regions]
        for class_name, code in sorted(coded, key=lambda one: -int(run_lengths.area(one[1]))):
            label[run_lengths.decode(code) > 0] = self.labels[class_name]
        if found.size is None:
            return Loaded(content, label)
        annotation = f"The annotation of {name}"
        label, assumed = fit_label(label, image, lambda: 1, annotation, "its image")
        return Loaded(content, label, [remark_on_turned_mask(annotation)] if assumed else [])


def prepare_annotations(
    output: Path,
    *,
    name: str,
    source: Path,
    images: Path | None = None,
    classes: Sequence[str] | None = None,
    background: str | None = None,
    train_list: Path | None = None,
    val_list: Path | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare images and the annotations of another tool.

    Args:
        source: A COCO or Label Studio JSON file, or a folder with YOLO's `data.yaml` or CVAT's `labelmap.txt`.
        images: Folder of the images; None: beside the annotations, or where they say.
        classes: Names in label order, all that the annotations use among them; None: the annotations' own order.
        background: Name of a further class, the first, for pixels in no region; None: they are ignored.
        train_list: File with the ids for training, see `choose_parts`; None: as the annotations say, else drawn.
        val_list: The same for validation.

    Other arguments are those of `prepare_folder`, result and errors those of `prepare_dataset.prepare`.
    """
    found = read_annotations(source, images)
    names = _names_in_order(found, classes, background)
    ids = sorted(found.images)
    drawn: dict[str, float | int] = {}
    if found.parts is None or train_list or val_list:
        drawn = {"val_fraction": val_fraction, "seed": seed}
        parts = choose_parts(ids, train_list=train_list, val_list=val_list, val_fraction=val_fraction, seed=seed)
    else:
        parts = found.parts
    if empty := [one for one in ids if not (found.images[one].regions or found.images[one].mask)]:
        becomes = f"they become {background} as a whole" if background else "all their pixels are ignored"
        log.warning(
            "%s without a region, as %s: %s.", counted(len(empty), "image"), found.images[empty[0]].image, becomes
        )
    labels = {class_name: label for label, class_name in enumerate(names)}
    rest = labels[background] if background is not None else IGNORED
    lists = [path for path in (train_list, val_list) if path is not None]
    return write_prepared(
        output,
        name=name,
        classes=names,
        parts={part: [ImageSource(one, found.images[one]) for one in chosen] for part, chosen in parts.items()},
        load=AnnotationLoader(labels, rest, _colour_masks(found, names, background)),
        options={"from": "annotations", "background": background, **drawn},
        review=partial(_review_regions, background=background),
        sources=[describe_file(path) for path in (*found.files, *lists)],
        inputs=[*found.files, *lists, *sorted({one.image.container.parent for one in found.images.values()})],
        **writing,
    )


def _review_regions(info: DatasetInfo, background: str | None) -> None:
    """Refuse annotations of which nothing was painted, as where the files of labels were not found."""
    for name, *pixels in zip(info.classes, *(part.pixels for part in info.parts.values()), strict=True):
        if name != background and any(pixels):
            return
    raise UserError("No pixel lies in a region of the annotations: are the files with the regions where they belong?")


def _run_lengths(region: Region, height: int, width: int, image: Entry) -> _RunLengths:
    """COCO's compressed run lengths of a region of an image of this size."""
    run_lengths = pycocotools()
    with explained(image, "its annotation"):
        if region.kind == "coco":
            return _coco_run_lengths(region.shape, height, width)
        if region.kind == "polygon":
            mask = _painted(region.shape, height, width)
        else:
            brush = import_extra("label_studio_converter.brush", "Label Studio's masks", "formats")
            wide, high, code = region.shape
            if (high, wide) != (height, width):
                raise ValueError(f"it is of an image of {wide} x {high} pixels, this one has {width} x {height}")
            mask = brush.decode_rle(list(code)).reshape(height, width, 4)[..., 3] > 0
        return run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))


def _coco_run_lengths(segmentation: Any, height: int, width: int) -> _RunLengths:
    run_lengths = pycocotools()
    if isinstance(segmentation, list):
        outlines = [np.asarray(outline, dtype=np.float64).ravel().tolist() for outline in segmentation]
        if any(len(outline) < 6 or len(outline) % 2 for outline in outlines):
            raise ValueError("a polygon has less than three points, or half a point")
        if not np.isfinite([number for outline in outlines for number in outline]).all():
            raise ValueError("a polygon has a point at no finite place")  # pycocotools would not return
        found = run_lengths.merge(run_lengths.frPyObjects(outlines, height, width))
    elif list(segmentation["size"]) != [height, width]:
        high, wide = segmentation["size"]
        raise ValueError(f"it is of an image of {wide} x {high} pixels, this one has {width} x {height}")
    else:
        found = checked_run_lengths(run_lengths, segmentation["counts"], height, width)
    return found


def _painted(fractions: Sequence[float], height: int, width: int) -> NDArray[np.uint8]:
    """Paint a polygon as ultralytics does: corners cut off to whole pixels, edges included."""
    cv2 = import_extra("cv2", "Polygons", "formats")
    points = np.array(fractions, dtype=np.float64).reshape(-1, 2)
    beyond = points[~((points > -_BEYOND) & (points < 1 + _BEYOND)).all(axis=1)]
    if beyond.size:
        place = " and ".join(
            f"{100 * share:g} % of its {side}" for share, side in zip(beyond[0], ("width", "height"), strict=True)
        )
        raise ValueError(f"a polygon has a point far outside the image, at {place}")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [(points * (width, height)).astype(np.int32)], 1)
    return mask


def _names_in_order(found: Annotations, classes: Sequence[str] | None, background: str | None) -> list[str]:
    """Class names in label order, the background first."""
    names = list(classes) if classes is not None else list(found.classes)
    unknown = [name for name in found.classes if name not in names]
    if unknown:
        known = closest(unknown[0], names)
        raise UserError(f'The annotations have a class "{unknown[0]}" that you did not name.{known}')
    if background is not None and background not in names:
        names.insert(0, background)
    return names


def _colour_masks(found: Annotations, names: Sequence[str], background: str | None) -> ColourMasks | None:
    if not found.colours:
        return None
    nothing = found.colours.get(None, (0, 0, 0))
    # Names without a colour never occur in the masks: -1 is no colour of a picture.
    own: dict[str | None, Colour] = {**found.colours, **({background: nothing} if background is not None else {})}
    ignored = frozenset() if background is not None else frozenset([nothing])
    return ColourMasks(tuple(own.get(name, (-1, -1, number)) for number, name in enumerate(names)), ignored)
