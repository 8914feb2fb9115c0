"""Which columns of a foreign dataset hold the image and the mask, and what its classes are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade_clip.data.class_list_file import class_name_problems
from cascade_clip.errors import UserError, closest

_IMAGE_NAMES = ("image", "pixel_values", "img", "picture", "photo", "jpg", "jpeg", "file")
_LABEL_NAMES = (
    "label",
    "mask",
    "annotation",
    "segmentation",
    "labels",
    "masks",
    "label_map",
    "segmentation_mask",
    "segmentation_map",
    "semantic_segmentation",
    "semantic_mask",
    "semantic",
    "annotations",
    "label_image",
    "gt",
    "seg",
    "seg.png",
    "mask.png",
)
CLASS_FILES = ("dataset.json", "id2label.json", "classes.txt")
"""Files of a dataset that may name its classes, in the order in which they are asked."""


@dataclass(frozen=True)
class Columns:
    """The two columns that count."""

    image: str
    label: str


def find_columns(
    features: Mapping[str, Any], source: str, *, image: str | None = None, label: str | None = None
) -> Columns:
    """Find the columns of images and masks: by what the user says, else by type and usual names.

    Args:
        features: Features by column, as `datasets` gives them.
        source: The dataset, for messages.
        image: Name of the image column.
        label: Name of the mask column.

    Returns:
        The columns.

    Raises:
        UserError: A named column is not there or holds no images, or several columns could be meant.
    """
    from datasets import Image

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    for given, option in ((image, "--image-column"), (label, "--label-column")):
        if given is not None and given not in images:
            held = f"holds {features[given]}, not images" if given in features else "is not there"
            raise UserError(f'{option} "{given}": this column of {source} {held}.{closest(given, images)}')
    if len(images) < 2:
        raise UserError(
            f"{source} needs a column of images and one of masks; it has {_listed(features)}. "
            "An imagefolder names both files of a pair in its metadata.jsonl: image_file_name and mask_file_name."
        )
    label = label or _the_one([name for name in images if name != image], _LABEL_NAMES)
    image = image or _the_one([name for name in images if name != label], _IMAGE_NAMES)
    if image is not None and label is None:
        label = _the_one([name for name in images if name != image], ())
    if image is None or label is None or image == label:
        raise UserError(
            f"{source} has several columns of images ({', '.join(images)}); say which one holds the image and which "
            "one the mask, with --image-column and --label-column of `cascade-clip prepare-data hub`."
        )
    return Columns(image, label)


def _the_one(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The only name, or the only one of the usual ones; None where there is a choice."""
    known = [name for name in names if name.lower() in usual]
    found = known or list(names)
    return found[0] if len(found) == 1 else None


def _listed(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items()) or "no column"


def find_class_names(
    features: Mapping[str, Any], read_file: Callable[[str], bytes | None], source: str
) -> tuple[str, ...] | None:
    """Find the class names that a dataset itself gives.

    Asked in turn: `dataset.json` (`classes`), `id2label.json` ({"0": "sky", ...}), `classes.txt` (one a line), and a
    column that lists the classes of each image (a list of `ClassLabel`). A single `ClassLabel` an image does not count:
    it tells what the whole image is, for example the kind of scene.

    Args:
        features: Features by column, as `datasets` gives them.
        read_file: Gives a file of the dataset by name; None where there is no such file.
        source: The dataset, for messages.

    Returns:
        Class names in the order of the mask's values; None where the dataset names none.

    Raises:
        UserError: One of the files is there and says something else, or the names are repeated or empty.
    """
    for name in CLASS_FILES:
        content = read_file(name)
        if content is None:
            continue
        found = _names_in(name, content, f"{source}: {name}")
        if found is not None:
            return found
    from datasets import ClassLabel

    listed = {tuple(inner.names) for feature in features.values() if isinstance(inner := _inner(feature), ClassLabel)}
    return _checked(listed.pop(), f"{source}: its list of ClassLabel") if len(listed) == 1 else None


def _inner(feature: Any) -> Any:
    """What a list feature is a list of."""
    return feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)


def _names_in(name: str, content: bytes, where: str) -> tuple[str, ...] | None:
    try:
        text = content.decode("utf-8-sig")
        if name == "classes.txt":
            return _checked(tuple(line.strip() for line in text.strip().splitlines()), where)
        parsed = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} cannot be read ({error}). Mend it, or give the names with --classes.") from error
    if name == "dataset.json":
        names = parsed.get("classes") if isinstance(parsed, dict) else None
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            return None
        return _checked(tuple(names), where)
    if not isinstance(parsed, dict) or sorted(parsed) != sorted(map(str, range(len(parsed)))):
        raise UserError(f'{where} must map "0", "1", ... without a gap to names. Mend it, or use --classes.')
    return _checked(tuple(str(parsed[str(index)]) for index in range(len(parsed))), where)


def _checked(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    problems = class_name_problems(names)
    if problems:
        raise UserError(f"{where}: {' '.join(problems)} Mend it, or give the names with --classes.")
    return names
