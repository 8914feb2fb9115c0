"""Predicted masks in the files that annotation tools and other libraries read (extra `formats`)."""

import io
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.drawing.palette import Colour, hex_colour
from cascade_clip.errors import UserError, closest, listed
from cascade_clip.files import write_files
from cascade_clip.inference.segmentation import Segmentation

log = logging.getLogger(__name__)

Polygon = NDArray[np.int32]
"""(P, 2) x and y of the pixels on the border of a region."""


class MaskWriter(Protocol):
    """Collects the masks of many images under one list of classes.

    `library` is the module of the extra `formats` that the format needs; None: none.
    """

    library: ClassVar[str | None]

    def __init__(self, folder: Path, classes: Sequence[str], colours: Sequence[Colour]) -> None:
        """`folder` is that of all predictions; K `classes` and their `colours`.

        Raises UserError: the folder holds masks of other classes, or a file that is not ours.
        """

    def add(self, image: Path, stem: str, segmentation: Segmentation) -> None:
        """Take the labels (H, W) of an image file; `stem` is unique among the images, and no path."""

    def finish(self) -> Path:
        """Write what belongs to all images, and return the file to open or the folder to import."""


class CocoWriter:
    """`coco.json`: one annotation for each class of each image, its mask as a compressed run-length code.

    Categories are numbered from 1, since many readers take 0 for the background. Each annotation has a score, so that
    `COCO.loadRes` takes them as results.
    """

    library: ClassVar[str | None] = "pycocotools"
    _BEGINNING = b'{"info": {"description": "Predicted by cascade-clip"}'

    def __init__(self, folder: Path, classes: Sequence[str], colours: Sequence[Colour]) -> None:
        """See `MaskWriter`."""
        self._file = folder / "coco.json"
        _check_own(self._file, self._BEGINNING)
        self._categories = [{"id": index + 1, "name": name, "supercategory": ""} for index, name in enumerate(classes)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: Path, stem: str, segmentation: Segmentation) -> None:
        """See `MaskWriter`."""
        from pycocotools import mask as run_lengths

        height, width = segmentation.labels.shape
        number = len(self._images) + 1
        self._images.append(
            {"id": number, "file_name": segmentation.source or str(image), "width": width, "height": height}
        )
        for found in segmentation.summary():
            code = run_lengths.encode(np.asfortranarray(segmentation.labels == found.index, dtype=np.uint8))
            self._annotations.append({
                "id": len(self._annotations) + 1,
                "image_id": number,
                "category_id": found.index + 1,
                "iscrowd": 0,
                "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                "area": found.pixels,
                "bbox": run_lengths.toBbox(code).tolist(),
                "score": found.mean_score,
            })  # fmt: skip

    def finish(self) -> Path:
        """See `MaskWriter`."""
        about = json.loads(self._BEGINNING + b"}")
        about |= {"images": self._images, "annotations": self._annotations, "categories": self._categories}
        return _write_json(self._file, about, lambda content: {image["file_name"] for image in content["images"]})


class YoloWriter:
    """`yolo/`: a data set as ultralytics trains on, images copied, and regions as polygons in `labels/STEM.txt`.

    A region with holes becomes one polygon whose holes are reached by lines of no width, as usual for this format.
    Pixels of no class are in no polygon.
    """

    library: ClassVar[str | None] = "cv2"

    def __init__(self, folder: Path, classes: Sequence[str], colours: Sequence[Colour]) -> None:
        """See `MaskWriter`."""
        self._folder = folder / "yolo"
        names = "".join(f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(classes))
        # A path would be that of this machine: ultralytics takes the folder of the file where there is none.
        self._settings = f"train: images\nval: images\nnames:\n{names}"
        _check_same(self._folder / "data.yaml", self._settings)

    def add(self, image: Path, stem: str, segmentation: Segmentation) -> None:
        """See `MaskWriter`."""
        height, width = segmentation.labels.shape
        lines = []
        for found in segmentation.summary():
            for polygon in polygons(segmentation.labels == found.index):
                # Readers cut coordinates off to whole pixels (ultralytics) or round them (supervision).
                places = (polygon + 0.25) / (width, height)
                lines.append(f"{found.index} " + " ".join(f"{value:.7g}" for value in places.ravel()) + "\n")
        write_files({self._folder / "labels" / f"{stem}.txt": "".join(lines).encode()})
        copy = self._folder / "images" / f"{stem}{image.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, copy)

    def finish(self) -> Path:
        """See `MaskWriter`."""
        write_files({self._folder / "data.yaml": self._settings.encode()})
        return self._folder / "data.yaml"


class CvatWriter:
    """`cvat/`: CVAT's "Segmentation mask 1.1", colour pictures in the layout of PASCAL VOC; zip it to upload it."""

    library: ClassVar[str | None] = None

    def __init__(self, folder: Path, classes: Sequence[str], colours: Sequence[Colour]) -> None:
        """See `MaskWriter`."""
        self._folder = folder / "cvat"
        self._stems: list[str] = []
        shades = unique_colours(colours)
        self._palette = np.array([*shades, (0, 0, 0)], dtype=np.uint8)
        names = [_one_line(name) for name in classes]
        for name, own in zip(names, classes, strict=True):
            if names.count(name) > 1:
                raise UserError(f'--format cvat: "{own}" would have the name of another class without its colon.')
            if name != own:
                log.warning('CVAT\'s names hold no colon: "%s" becomes "%s" there.', own, name)
        rows = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(names, shades, strict=True)]
        self._map = "\n".join(["# label:color_rgb:parts:actions", "background:0,0,0::", *rows, ""])
        _check_same(self._folder / "labelmap.txt", self._map)

    def add(self, image: Path, stem: str, segmentation: Segmentation) -> None:
        """See `MaskWriter`."""
        self._stems.append(stem)
        encoded = io.BytesIO()
        nothing = len(self._palette) - 1
        labels = np.where(segmentation.labels == segmentation.no_class, nothing, segmentation.labels)
        Image.fromarray(self._palette[labels]).save(encoded, "PNG")
        folders = ("SegmentationClass", "SegmentationObject")
        write_files({self._folder / name / f"{stem}.png": encoded.getvalue() for name in folders})

    def finish(self) -> Path:
        """See `MaskWriter`."""
        # Masks of earlier runs stay; readers see only those that are listed.
        earlier = {path.stem for path in (self._folder / "SegmentationClass").glob("*.png")} - {*self._stems}
        stems = "".join(f"{stem}\n" for stem in [*sorted(earlier), *self._stems])
        write_files({
            self._folder / "labelmap.txt": self._map.encode(),
            self._folder / "ImageSets" / "Segmentation" / "default.txt": stems.encode(),
        })  # fmt: skip
        return self._folder


class LabelStudioWriter:
    """`labelstudio.json`: tasks with brush masks as predictions; `labelstudio.xml`: the project's labelling interface.

    Images are named as Label Studio's local storage does with `LOCAL_FILES_DOCUMENT_ROOT=/`.
    """

    library: ClassVar[str | None] = "label_studio_converter"

    def __init__(self, folder: Path, classes: Sequence[str], colours: Sequence[Colour]) -> None:
        """See `MaskWriter`."""
        self._folder = folder
        _check_own(folder / "labelstudio.json", b'[{"data": {"image": ')
        self._tasks: list[dict[str, Any]] = []
        labels = "".join(
            f"    <Label value={quoteattr(name)} background={quoteattr(hex_colour(colour))}/>\n"
            for name, colour in zip(classes, colours, strict=True)
        )
        self._interface = (
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <BrushLabels name="classes" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
        )

    def add(self, image: Path, stem: str, segmentation: Segmentation) -> None:
        """See `MaskWriter`."""
        from label_studio_converter.brush import mask2rle

        height, width = segmentation.labels.shape
        regions = [
            {
                "id": f"{stem}-{found.index}",
                "type": "brushlabels",
                "from_name": "classes",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": mask2rle(np.where(segmentation.labels == found.index, 255, 0).astype(np.uint8)),
                    "brushlabels": [found.name],
                },
                "score": found.mean_score,
            }
            for found in segmentation.summary()
        ]
        source = segmentation.source or ""
        local = f"/data/local-files/?d={quote(image.absolute().as_posix().lstrip('/'))}"
        task = {"data": {"image": source if "://" in source else local}, "predictions": [{"result": regions}]}
        self._tasks.append(task)

    def finish(self) -> Path:
        """See `MaskWriter`."""
        write_files({self._folder / "labelstudio.xml": self._interface.encode()})
        file = self._folder / "labelstudio.json"
        return _write_json(file, self._tasks, lambda tasks: {task["data"]["image"] for task in tasks})


MASK_FORMATS: Mapping[str, type[MaskWriter]] = {
    "coco": CocoWriter,
    "yolo": YoloWriter,
    "cvat": CvatWriter,
    "labelstudio": LabelStudioWriter,
}


def mask_writers(formats: str | None, known: Collection[str] = MASK_FORMATS) -> list[type[MaskWriter]]:
    """Look up the comma-separated names of formats, each once; None: none.

    Raises UserError: a name that is not among those known, or a format whose library is not installed.
    """
    names = [name.strip() for name in formats.split(",")] if formats is not None else []
    for name in names:
        if name not in known:
            raise UserError(f'--format "{name}" is not known.{closest(name, known)}')
        library = MASK_FORMATS[name].library
        if library is not None and find_spec(library) is None:
            raise UserError(f'--format {name} needs the extra `formats`: pip install "cascade-clip[formats]".')
    return [MASK_FORMATS[name] for name in dict.fromkeys(names)]


def polygons(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Outline the connected regions of a mask (H, W), each as one polygon of at least three points.

    Points are pixels of the region, so that `cv2.fillPoly` paints the mask again, holes included.
    """
    import cv2

    outlines, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return []
    rings: list[Polygon] = [np.asarray(outline, dtype=np.int32).reshape(-1, 2) for outline in outlines]
    parents = tree[0, :, 3]
    joined = []
    for number in np.flatnonzero(parents < 0):
        ring = _with_holes(mask, rings[number], [rings[hole] for hole in np.flatnonzero(parents == number)])
        steps = np.roll(ring, -1, axis=0) - ring
        ring = ring[(steps != np.roll(steps, 1, axis=0)).any(axis=1)] if len(ring) > 3 else ring
        # A region of one or two pixels has as many points; its last one is repeated.
        joined.append(np.concatenate([ring, np.repeat(ring[-1:], max(0, 3 - len(ring)), axis=0)]))
    return joined


def _with_holes(mask: NDArray[np.bool_], ring: Polygon, holes: Sequence[Polygon]) -> Polygon:
    """Join each hole to what lies to its left, by a line there and back within the region.

    From left to right: whatever a hole meets on its left is then part of the outline already.
    """
    for hole in sorted(holes, key=lambda points: int(points[:, 0].min())):
        first = int(hole[:, 0].argmin())
        x, y = hole[first]
        met = x - int(np.argmin(mask[y, x::-1])) + 1 if not mask[y, x::-1].all() else 0
        here = int(np.flatnonzero((ring == (met, y)).all(axis=1))[0])
        around = np.roll(hole, -first, axis=0)
        ring = np.concatenate([ring[: here + 1], around, around[:1], ring[here:]])
    return ring


def unique_colours(colours: Sequence[Colour]) -> list[Colour]:
    """The same colours, with the blue of those that are black or repeated changed until each is its own."""
    taken: list[Colour] = [(0, 0, 0)]
    for red, green, blue in colours:
        shades: Iterator[Colour] = ((red, green, (blue + step) % 256) for step in range(256))
        taken.append(next(shade for shade in shades if shade not in taken))
    return taken[1:]


def _check_same(file: Path, content: str) -> None:
    """Refuse a folder whose masks count other classes: together they would mean two things by one number."""
    if file.exists() and file.read_bytes() != content.encode():
        raise UserError(
            f'"{file.parent}" holds masks of other classes, as "{file.name}" says: choose another --output, or remove'
            " the folder."
        )


def _check_own(file: Path, beginning: bytes) -> None:
    if file.exists() and not file.read_bytes().startswith(beginning):
        raise UserError(f'"{file}" was not written by cascade-clip and is kept: choose another --output.')


def _one_line(name: str) -> str:
    """A class name for `labelmap.txt`, whose fields end at colons."""
    return " ".join(name.replace(":", " ").split())


def _write_json(file: Path, record: Any, images_of: Callable[[Any], set[str]]) -> Path:
    """Write a file in place of that of an earlier run, and say which images are no longer in it."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        if lost := images_of(json.loads(file.read_bytes())) - images_of(record):
            log.warning('"%s" of an earlier run is replaced: it no longer holds %s.', file, listed(sorted(lost)))
    write_files({file: json.dumps(record, ensure_ascii=False, allow_nan=False).encode()})
    return file
