"""Annotations as COCO JSON, YOLO, CVAT and Label Studio keep them: classes, images, and regions not yet painted."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import yaml

from cascade_clip.data.class_list_file import Colour
from cascade_clip.data.dataset_info import Part
from cascade_clip.data.images import IMAGE_SUFFIXES
from cascade_clip.errors import UserError, counted, first_line
from cascade_clip.files import composed
from cascade_clip.preparation.masks import import_extra
from cascade_clip.preparation.problems import Problem, refuse
from cascade_clip.preparation.source_files import files_below, read_lines
from cascade_clip.preparation.source_tree import Entry

log = logging.getLogger(__name__)

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


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
    size: tuple[int, int] | None = None
    """Height and width that the regions were drawn on, where the tool says so; None: on the image as it is shown."""


@dataclass
class Annotations:
    """What an annotation tool wrote: class names in its order, images by id, and ids of each part (None: not divided).

    `colours` are those of masks that are pictures, by class name (None: of what belongs to no class); `files` were
    read, for `dataset.json`.
    """

    classes: list[str]
    images: dict[str, AnnotatedImage]
    parts: dict[Part, list[str]] | None = None
    colours: dict[str | None, Colour] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


def read_annotations(source: Path, images: Path | None = None) -> Annotations:
    """Recognise what wrote the annotations, and read them; `images` is the folder of the images.

    Raises UserError where no known tool wrote this, it is damaged, or images are not there, by name.
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

    Raises UserError where `settings` is damaged, or a file has boxes, not polygons, or numbers that are no class.
    """
    import_extra("cv2", "Polygons", "formats")
    with explained(settings, "YOLO's data.yaml"):
        content = yaml.safe_load(settings.read_text(encoding="utf-8"))
        classes = _yolo_classes(content["names"])
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
    names = [classes[number] for number in sorted(classes)]
    both = set(parts["train"]) & set(parts["val"])
    if both == {*found} or not parts["val"]:
        return Annotations(names, found, None, files=[settings])
    refuse([Problem(f'"{one}" is an image of `train` and of `val` in {settings}.', one) for one in sorted(both)])
    return Annotations(names, found, parts, files=[settings])


def _yolo_classes(names: Any) -> dict[int, str]:
    """Class names by their number, which may leave some out."""
    if not isinstance(names, list | dict):
        raise ValueError("`names` must list the classes, or map numbers to them")
    classes = dict(enumerate(names)) if isinstance(names, list) else {int(key): names[key] for key in names}
    for name in classes.values():
        if type(name) not in (str, int, float):
            raise ValueError(f"a class is called {name!r}: YAML reads yes, no, on, off and null so, unless in quotes")
    return {number: str(name) for number, name in classes.items()}


def read_cvat(label_map: Path, images: Path | None = None) -> Annotations:
    """Read CVAT's "Segmentation mask": colour pictures in `SegmentationClass`, colours in `labelmap.txt`.

    Raises UserError where `labelmap.txt` is damaged, or an image or mask is missing.
    """
    folder = label_map.parent
    colours: dict[str | None, Colour] = {}
    with explained(label_map, "CVAT's labelmap.txt"):
        for line in read_lines(label_map, "label map"):
            if not line.startswith("#"):
                name, shade = line.split(":")[:2]
                red, green, blue = (int(value) for value in shade.split(","))
                if name in colours or (red, green, blue) in colours.values():
                    raise ValueError(f'the label or the colour of "{line}" is listed more than once')
                colours[None if (red, green, blue) == (0, 0, 0) else name] = (red, green, blue)
    finder = _ImageFinder(images or folder, not_below=("SegmentationClass", "SegmentationObject") if not images else ())
    masks = sorted(path for path in files_below(folder / "SegmentationClass") if path.suffix == ".png")
    if not masks:
        raise UserError(f"{folder / 'SegmentationClass'} holds no mask.")
    below = {str(_below(path, folder / "SegmentationClass").with_suffix("")): path for path in masks}
    pairs = {one: AnnotatedImage(finder.find(one), mask=Entry.of(path)) for one, path in below.items()}
    refuse(finder.problems)
    return Annotations([name for name in colours if name is not None], pairs, colours=colours, files=[label_map])


def _read_coco(content: Mapping[str, Any], file: Path, images: Path | None) -> Annotations:
    pycocotools()
    with explained(file, "COCO's JSON"):
        for what in ("categories", "images"):
            if repeated := [one for one, times in Counter(entry["id"] for entry in content[what]).items() if times > 1]:
                raise ValueError(f"the id {repeated[0]} is that of several {what}")
        names = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda one: one["id"])}
        regions: dict[Any, list[Region]] = {entry["id"]: [] for entry in content["images"]}
        for entry in content["annotations"]:
            if not entry.get("segmentation"):
                raise ValueError(f"annotation {entry['id']} has a box but no segmentation")
            regions[entry["image_id"]].append(Region(names[entry["category_id"]], "coco", entry["segmentation"]))
        files = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        sizes = {one["id"]: (int(one["height"]), int(one["width"])) for one in content["images"] if "height" in one}
    return _with_images(list(names.values()), files, regions, file, images, sizes)


def _read_label_studio(tasks: Sequence[Mapping[str, Any]], file: Path, images: Path | None) -> Annotations:
    import_extra("label_studio_converter", "Label Studio's masks", "formats")
    regions: dict[int, list[Region]] = {}
    files: dict[int, str] = {}
    several = 0
    with explained(file, "Label Studio's JSON"):
        for number, task in enumerate(tasks):
            files[number] = _label_studio_path(next(value for value in task["data"].values() if isinstance(value, str)))
            answers = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
            answers.sort(key=lambda one: not one.get("ground_truth"))
            several += len(answers) > 1
            results = (answers or task.get("predictions") or [{"result": []}])[0]["result"]
            regions[number] = [region for result in results for region in _label_studio_regions(result)]
    if several:
        which = "of which the one marked as ground truth is taken, else the first"
        log.warning("%s in %s with several annotations, %s.", counted(several, "task"), file, which)
    drawn = {region.name for found in regions.values() for region in found}
    interface = _interface_labels(file.with_name("labelstudio.xml"))
    return _with_images([*interface, *sorted(drawn - set(interface))], files, regions, file, images)


def _interface_labels(file: Path) -> list[str]:
    """Labels of a labelling interface in its order, as `predict` writes it beside the JSON; empty: it is not there."""
    if not file.is_file():
        return []
    with explained(file, "Label Studio's labelling interface"):
        names = [label.attrib["value"] for label in ElementTree.parse(file).iter("Label")]
    return list(dict.fromkeys(names))


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
    sizes: Mapping[Any, tuple[int, int]] | None = None,
) -> Annotations:
    """Find the image files of annotations that name them by path."""
    finder = _ImageFinder(images or annotations.parent)
    found = {}
    for key, name in files.items():
        image = finder.find(name)
        one = str(_below(image.container, finder.folder).with_suffix(""))
        if one in found:
            finder.problems.append(Problem(f'"{name}" is the image {image} a second time.', name, (name, str(image))))
        found[one] = AnnotatedImage(image, tuple(regions[key]), size=(sizes or {}).get(key))
    refuse(finder.problems)
    return Annotations(classes, found, files=[annotations])


class _ImageFinder:
    """Finds images by the end of the path that annotations give, and keeps those that are missing or ambiguous."""

    def __init__(self, folder: Path, *, not_below: Iterable[str] = ()) -> None:
        if not folder.is_dir():
            raise UserError(f"The folder of images, {folder}, is not there.")
        self.folder, self._not_below = folder, set(not_below)
        self.problems: list[Problem] = []

    @cached_property
    def _paths(self) -> dict[str, list[Path]]:
        """Images by their name, with and without its ending."""
        found: dict[str, list[Path]] = {}
        for path in sorted(files_below(self.folder)):
            if path.suffix.lower() in IMAGE_SUFFIXES and not self._not_below & set(path.relative_to(self.folder).parts):
                for key in {composed(path.name), composed(path.stem)}:
                    found.setdefault(key, []).append(path)
        return found

    def find(self, given: str) -> Entry:
        """The file whose path ends as `given` does, with or without its ending."""
        wanted = PurePosixPath(given.replace("\\", "/"))
        exact = self.folder / wanted
        # A path with folders is not looked for elsewhere: Label Studio's may start from the root of a whole disk.
        has_folders = len(wanted.parts) > 1 and not {"..", "/"} & set(wanted.parts)
        if has_folders and exact.suffix.lower() in IMAGE_SUFFIXES and exact.is_file():
            return Entry.of(exact)
        name = composed(wanted.name)
        named = self._paths.get(name) or self._paths.get(_UPLOADED.sub("", name)) or []
        common = [_common_end(path, wanted) for path in named]
        longest = [path for path, folders in zip(named, common, strict=True) if folders == max(common)]
        if len(longest) == 1:
            return Entry.of(longest[0])
        which = (
            f"is there more than once: {longest[0]}, {longest[1]}" if longest else f"is not in {self.folder} (--images)"
        )
        self.problems.append(Problem(f'The image "{given}" {which}.', given, (given, *map(str, longest))))
        return Entry(self.folder / wanted, None, (0, 0))


def _common_end(path: Path, wanted: PurePosixPath) -> int:
    """How many folders, from the file upwards, the paths have in common."""
    pairs = zip(reversed(path.parent.parts), reversed(wanted.parent.parts), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if composed(one) != composed(other)), 99)


def _yolo_images(root: Path, beside: Path, place: str) -> list[Path]:
    """Images of one entry of `train` or `val`: a folder, or a list of files."""
    # Roboflow writes "../train/images" for a folder beside data.yaml.
    choices = [root / place, beside / place, beside / place.removeprefix("../")]
    where = next((path for path in choices if path.exists()), None)
    if where is None:
        raise UserError(f'The images "{place}" of data.yaml are not at {choices[0]}.')
    if where.is_file():
        return [where.parent / line for line in read_lines(where, "list of images")]
    return sorted(path for path in files_below(where) if path.suffix.lower() in IMAGE_SUFFIXES)


def _yolo_regions(image: Path, classes: Mapping[int, str]) -> tuple[Region, ...]:
    folders = list(image.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    file = Path(*folders, f"{image.stem}.txt")
    regions = []
    for line in read_lines(file, "labels") if file.is_file() else ():
        with explained(file, "YOLO polygons"):
            index, *numbers = line.split()
            if len(numbers) < 6 or len(numbers) % 2:
                raise ValueError(f'"{line[:60]}" is a box or incomplete, no polygon of three points or more')
            if int(index) not in classes:
                raise ValueError(f"class {index} is none of the {len(classes)} in data.yaml")
            regions.append(Region(classes[int(index)], "polygon", tuple(float(number) for number in numbers)))
    return tuple(regions)


def _below(path: Path, folder: Path) -> PurePosixPath:
    """A path inside a folder; by its last two parts where it lies elsewhere."""
    whole, above = (Path(os.path.normpath(place.absolute())) for place in (path, folder))
    if not whole.is_relative_to(above):
        whole, above = path.resolve(), folder.resolve()
    inside = whole.relative_to(above) if whole.is_relative_to(above) else Path(*whole.parts[-2:])
    return PurePosixPath(inside.as_posix())


def pycocotools() -> Any:
    """pycocotools' run lengths; raises UserError where the package is missing."""
    return import_extra("pycocotools.mask", "Run lengths and polygons", "formats")


@contextmanager
def explained(file: object, what: str) -> Iterator[None]:
    """Turn what Python raises on malformed annotations into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except KeyError as error:
        raise UserError(f"{file} cannot be read as {what}: {error} is missing or unknown.") from error
    except (
        AttributeError,
        ElementTree.ParseError,
        IndexError,
        StopIteration,
        TypeError,
        ValueError,
        yaml.YAMLError,
    ) as error:
        raise UserError(f"{file} cannot be read as {what}: {first_line(error)}.") from error
