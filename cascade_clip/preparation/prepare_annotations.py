"""Preparing images that were labelled elsewhere: COCO JSON, YOLO polygons, CVAT's colour masks, Label Studio."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, Unpack
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import yaml
from numpy.typing import NDArray

from cascade_clip.data.class_list_file import Colour
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import IMAGE_SUFFIXES, check_image
from cascade_clip.errors import UserError, closest, first_line
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.masks import ColourMasks, import_extra
from cascade_clip.preparation.prepare_folder import choose_parts
from cascade_clip.preparation.prepared_writer import WriteOptions, refuse, write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import describe_file, read_lines
from cascade_clip.preparation.source_tree import Entry

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
_RunLengths = dict[str, Any]


class Region(NamedTuple):
    """One labelled area of an image."""

    name: str
    kind: Literal["coco", "polygon", "brush"]
    shape: Any
    """COCO's `segmentation`; fractions x, y, x, y, ... of width and height; or Label Studio's `rle`."""


class AnnotatedImage(NamedTuple):
    """An image with its regions, or with a colour mask in their place."""

    image: Entry
    regions: tuple[Region, ...] = ()
    mask: Entry | None = None


@dataclass
class Annotations:
    """What an annotation tool wrote.

    Attributes:
        classes: Class names in the tool's order.
        images: Images by id.
        parts: Ids for training and validation; None: the tool does not divide them.
        colours: Colours of masks that are pictures, by class name; `None` names what belongs to no class.
        files: Files that were read, for `dataset.json`.
    """

    classes: list[str]
    images: dict[str, AnnotatedImage]
    parts: dict[Part, list[str]] | None = None
    colours: dict[str | None, Colour] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


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

    def __call__(self, source: ImageSource) -> tuple[bytes, NDArray[np.uint8]]:
        """Load the image file's bytes and its label; see `cascade_clip.preparation.shards.Loader`."""
        found: AnnotatedImage = source.payload
        content = found.image.read()
        height, width = check_image(content, str(found.image)).size
        if found.mask is not None and self.read_mask is not None:
            label = self.read_mask(found.mask)
            if label.shape != (height, width):
                raise UserError(
                    f"{found.mask} has {label.shape[1]} x {label.shape[0]} pixels, its image {found.image} has"
                    f" {width} x {height}; they must be equal."
                )
            return content, label
        label = np.full((height, width), self.rest, np.uint8)
        run_lengths = _pycocotools()
        coded = [(region.name, _run_lengths(region, height, width, found.image)) for region in found.regions]
        for name, code in sorted(coded, key=lambda one: -int(run_lengths.area(one[1]))):
            label[run_lengths.decode(code) > 0] = self.labels[name]
        return content, label


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
        output: Folder of the prepared dataset.
        name: Name of the dataset.
        source: A COCO or Label Studio JSON file, or a folder with YOLO's `data.yaml` or CVAT's `labelmap.txt`.
        images: Folder of the images; None: beside the annotations, or where they say.
        classes: Names in label order, all that the annotations use among them; None: the annotations' own order.
        background: Name of a further class, the first, for pixels in no region; None: they are ignored.
        train_list: File with the ids for training, see `choose_parts`; None: as the annotations say, else drawn.
        val_list: The same for validation.
        val_fraction: Share drawn for validation, 0 to below 1.
        seed: Seed of that draw.
        writing: `workers`, `overwrite` and `progress`, see `WriteOptions`.

    Raises:
        UserError: The annotations cannot be read, name unknown classes, or their images are not there.
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
        sources=[describe_file(path) for path in (*found.files, *lists)],
        inputs=[*found.files, *lists, *sorted({one.image.container.parent for one in found.images.values()})],
        **writing,
    )


def read_annotations(source: Path, images: Path | None = None) -> Annotations:
    """Recognise what wrote the annotations, and read them; `images` is the folder of the images.

    Raises:
        UserError: None of the known tools wrote this, or it is damaged; images are not there, by name.
    """
    if source.is_dir():
        for name, read in (("data.yaml", read_yolo), ("data.yml", read_yolo), ("labelmap.txt", read_cvat)):
            if (source / name).is_file():
                return read(source / name, images)
        raise UserError(f"{source} holds neither data.yaml (YOLO) nor labelmap.txt (CVAT). {_KNOWN}")
    if source.suffix.lower() in (".yaml", ".yml"):
        return read_yolo(source, images)
    if source.name == "labelmap.txt":
        return read_cvat(source, images)
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is no JSON file ({first_line(error)}). {_KNOWN}") from error
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        return _read_coco(content, source, images)
    if isinstance(content, list) and content and all(isinstance(task, dict) and "data" in task for task in content):
        return _read_label_studio(content, source, images)
    raise UserError(f"{source} is neither COCO's nor Label Studio's JSON. {_KNOWN}")


_KNOWN = (
    "Known are COCO JSON with images, annotations and categories; Label Studio's JSON; a folder with YOLO's data.yaml;"
    ' a folder in CVAT\'s form "Segmentation mask".'
)


def read_yolo(settings: Path, images: Path | None = None) -> Annotations:
    """Read polygons as ultralytics does: `labels/…/NAME.txt` beside `images/…/NAME.jpg`.

    Raises:
        UserError: `settings` is damaged, a file has boxes in place of polygons, or numbers that are no class.
    """
    import_extra("cv2", "Polygons", "formats")
    with _explained(settings, "YOLO's data.yaml"):
        content = yaml.safe_load(settings.read_text(encoding="utf-8"))
        names = content["names"]
        classes = [str(names[key]) for key in (sorted(names) if isinstance(names, dict) else range(len(names)))]
        root = Path(settings.parent, images or content.get("path") or ".")
        places: dict[Part, Any] = {"train": content["train"], "val": content.get("val") or []}
    parts: dict[Part, list[str]] = {"train": [], "val": []}
    found: dict[str, AnnotatedImage] = {}
    for part, given in places.items():
        for place in [given] if isinstance(given, str) else given:
            for path in _yolo_images(root, settings.parent, str(place)):
                one = str(_below(path, settings.parent).with_suffix(""))
                image = found.setdefault(one, AnnotatedImage(Entry.of(path), _yolo_regions(path, classes))).image
                if image.container != path:
                    raise UserError(f"{path} and {image} have the same name; only the ending differs.")
                parts[part].append(one)
    if parts["train"] == parts["val"] or not parts["val"]:
        return Annotations(classes, found, None, files=[settings])
    return Annotations(classes, found, parts, files=[settings])


def read_cvat(label_map: Path, images: Path | None = None) -> Annotations:
    """Read CVAT's "Segmentation mask": colour pictures in `SegmentationClass`, colours in `labelmap.txt`.

    Raises:
        UserError: `labelmap.txt` is damaged, or an image or mask is missing.
    """
    folder = label_map.parent
    colours: dict[str | None, Colour] = {}
    with _explained(label_map, "CVAT's labelmap.txt"):
        for line in read_lines(label_map, "label map"):
            if line and not line.startswith("#"):
                name, shade = line.split(":")[:2]
                red, green, blue = (int(value) for value in shade.split(","))
                colours[None if (red, green, blue) == (0, 0, 0) else name] = (red, green, blue)
    finder = _ImageFinder(images or folder, not_below=("SegmentationClass", "SegmentationObject") if not images else ())
    masks = sorted((folder / "SegmentationClass").rglob("*.png"))
    if not masks:
        raise UserError(f"{folder / 'SegmentationClass'} holds no mask.")
    below = {str(_below(path, folder / "SegmentationClass").with_suffix("")): path for path in masks}
    pairs = {one: AnnotatedImage(finder.find(one), mask=Entry.of(path)) for one, path in below.items()}
    finder.refuse_missing()
    return Annotations([name for name in colours if name is not None], pairs, colours=colours, files=[label_map])


def _read_coco(content: Mapping[str, Any], file: Path, images: Path | None) -> Annotations:
    _pycocotools()
    with _explained(file, "COCO's JSON"):
        names = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda one: one["id"])}
        regions: dict[Any, list[Region]] = {entry["id"]: [] for entry in content["images"]}
        for entry in content["annotations"]:
            if not entry.get("segmentation"):
                raise ValueError(f"annotation {entry['id']} has a box but no segmentation")
            regions[entry["image_id"]].append(Region(names[entry["category_id"]], "coco", entry["segmentation"]))
        files = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
    return _with_images(list(names.values()), files, regions, file, images)


def _read_label_studio(tasks: Sequence[Mapping[str, Any]], file: Path, images: Path | None) -> Annotations:
    import_extra("label_studio_converter", "Label Studio's masks", "formats")
    regions: dict[int, list[Region]] = {}
    files: dict[int, str] = {}
    with _explained(file, "Label Studio's JSON"):
        for number, task in enumerate(tasks):
            files[number] = _label_studio_path(next(value for value in task["data"].values() if isinstance(value, str)))
            answers = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
            results = (answers or task.get("predictions") or [{"result": []}])[0]["result"]
            regions[number] = [region for result in results for region in _label_studio_regions(result)]
    classes = sorted({region.name for found in regions.values() for region in found})
    return _with_images(classes, files, regions, file, images)


def _label_studio_regions(result: Mapping[str, Any]) -> Iterator[Region]:
    value, kind = result.get("value", {}), result["type"]
    if kind == "brushlabels":
        for name in value["brushlabels"]:
            yield Region(name, "brush", (result["original_width"], result["original_height"], bytes(value["rle"])))
    elif kind == "polygonlabels":
        for name in value["polygonlabels"]:
            yield Region(name, "polygon", tuple(float(number) / 100 for point in value["points"] for number in point))
    elif kind not in ("choices", "rating", "textarea", "relation"):
        raise ValueError(f'a region is of type "{kind}"; only brushes and polygons say which pixels they mean')


def _label_studio_path(address: str) -> str:
    parts = urlsplit(address)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]


def _with_images(
    classes: list[str],
    files: Mapping[Any, str],
    regions: Mapping[Any, Sequence[Region]],
    annotations: Path,
    images: Path | None,
) -> Annotations:
    """Find the image files of annotations that name them by path."""
    finder = _ImageFinder(images or annotations.parent)
    found = {}
    for key, name in files.items():
        image = finder.find(name)
        one = str(_below(image.container, finder.folder).with_suffix(""))
        if one in found:
            finder.problems.append(f'"{name}" is the image {image} a second time.')
        found[one] = AnnotatedImage(image, tuple(regions[key]))
    finder.refuse_missing()
    return Annotations(classes, found, files=[annotations])


class _ImageFinder:
    """Finds images by the end of the path that annotations give, and keeps those that are missing or ambiguous."""

    def __init__(self, folder: Path, *, not_below: Iterable[str] = ()) -> None:
        if not folder.is_dir():
            raise UserError(f"The folder of images, {folder}, is not there.")
        self.folder = folder
        self._paths: dict[str, list[Path]] = {}
        self.problems: list[str] = []
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and not set(not_below) & set(path.relative_to(folder).parts):
                for key in {path.name, path.stem}:
                    self._paths.setdefault(key, []).append(path)

    def find(self, given: str) -> Entry:
        """The file whose path ends as `given` does, with or without its ending."""
        wanted = PurePosixPath(given.replace("\\", "/"))
        named = self._paths.get(wanted.name) or self._paths.get(_UPLOADED.sub("", wanted.name)) or []
        common = [_common_end(path, wanted) for path in named]
        longest = [path for path, folders in zip(named, common, strict=True) if folders == max(common)]
        if len(longest) == 1:
            return Entry.of(longest[0])
        which = (
            f"is there more than once: {longest[0]}, {longest[1]}" if longest else f"is not in {self.folder} (--images)"
        )
        self.problems.append(f'The image "{given}" {which}.')
        return Entry(self.folder / wanted, None, (0, 0))

    def refuse_missing(self) -> None:
        """Raise one UserError for all images that were not found."""
        refuse(self.problems)


def _common_end(path: Path, wanted: PurePosixPath) -> int:
    """How many folders, from the file upwards, the paths have in common."""
    pairs = zip(reversed(path.parent.parts), reversed(wanted.parent.parts), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), 99)


def _yolo_images(root: Path, beside: Path, place: str) -> list[Path]:
    """Images of one entry of `train` or `val`: a folder, or a list of files."""
    # Roboflow writes "../train/images" for a folder beside data.yaml.
    choices = [root / place, beside / place, beside / place.removeprefix("../")]
    where = next((path for path in choices if path.exists()), None)
    if where is None:
        raise UserError(f'The images "{place}" of data.yaml are not at {choices[0]}.')
    if where.is_file():
        return [where.parent / line for line in read_lines(where, "list of images") if line]
    return sorted(path for path in where.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _yolo_regions(image: Path, classes: Sequence[str]) -> tuple[Region, ...]:
    folders = list(image.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    file = Path(*folders, f"{image.stem}.txt")
    regions = []
    for line in read_lines(file, "labels") if file.is_file() else ():
        with _explained(file, "YOLO polygons"):
            index, *numbers = line.split() or [""]
            if not index:
                continue
            if len(numbers) < 6 or len(numbers) % 2:
                raise ValueError(f'"{line[:60]}" is a box or incomplete, no polygon of three points or more')
            if not 0 <= int(index) < len(classes):
                raise ValueError(f"class {index} is none of the {len(classes)} in data.yaml")
            regions.append(Region(classes[int(index)], "polygon", tuple(float(number) for number in numbers)))
    return tuple(regions)


def _run_lengths(region: Region, height: int, width: int, image: Entry) -> _RunLengths:
    """COCO's compressed run lengths of a region of an image of this size."""
    run_lengths = _pycocotools()
    with _explained(image, "its annotation"):
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
        found: _RunLengths = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
        return found


def _coco_run_lengths(segmentation: Any, height: int, width: int) -> _RunLengths:
    run_lengths = _pycocotools()
    if isinstance(segmentation, list):
        outlines = [np.asarray(outline, dtype=np.float64).ravel().tolist() for outline in segmentation]
        if any(len(outline) < 6 or len(outline) % 2 for outline in outlines):
            raise ValueError("a polygon has less than three points, or half a point")
        found = run_lengths.merge(run_lengths.frPyObjects(outlines, height, width))
    elif list(segmentation["size"]) != [height, width]:
        high, wide = segmentation["size"]
        raise ValueError(f"it is of an image of {wide} x {high} pixels, this one has {width} x {height}")
    elif isinstance(segmentation["counts"], list):
        found = run_lengths.frPyObjects(segmentation, height, width)
    else:
        found = {"size": [height, width], "counts": segmentation["counts"].encode("ascii")}
    coded: _RunLengths = found
    return coded


def _painted(fractions: Sequence[float], height: int, width: int) -> NDArray[np.uint8]:
    """Paint a polygon as ultralytics does: corners cut off to whole pixels, edges included."""
    cv2 = import_extra("cv2", "Polygons", "formats")
    points = np.array(fractions, dtype=np.float64).reshape(-1, 2) * (width, height)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [points.astype(np.int32)], 1)
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


def _below(path: Path, folder: Path) -> PurePosixPath:
    """A path inside a folder; by its last two parts where it lies elsewhere."""
    whole, above = path.resolve(), folder.resolve()
    inside = whole.relative_to(above) if whole.is_relative_to(above) else Path(*whole.parts[-2:])
    return PurePosixPath(inside.as_posix())


def _pycocotools() -> Any:
    return import_extra("pycocotools.mask", "Run lengths and polygons", "formats")


@contextmanager
def _explained(file: object, what: str) -> Iterator[None]:
    """Turn what Python raises on malformed annotations into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except KeyError as error:
        raise UserError(f"{file} cannot be read as {what}: {error} is missing or unknown.") from error
    except (AttributeError, IndexError, StopIteration, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as {what}: {first_line(error)}.") from error
