"""Reading `trainval_merged.json`: the 459-class annotation of PASCAL Context as COCO RLE, with the official split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade_clip.data.dataset_info import Part
from cascade_clip.errors import UserError
from cascade_clip.preparation.context_classes import LAST_ID
from cascade_clip.preparation.context_masks import RleLabel
from cascade_clip.preparation.problem_list import problem_list
from cascade_clip.preparation.source_tree import Entry


class _Annotated(BaseModel):
    model_config = ConfigDict(frozen=True)  # the file holds more than is read here: parts, boundaries, occlusion


class _Image(_Annotated):
    image_id: int
    file_name: Annotated[str, Field(min_length=1)]
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]
    phase: Literal["train", "val"]


class _RunLengths(_Annotated):
    size: tuple[int, int]
    counts: str | tuple[int, ...]


class _Annotation(_Annotated):
    image_id: int
    category_id: Annotated[int, Field(ge=0, le=LAST_ID)]
    segmentation: _RunLengths


class _File(_Annotated):
    images: tuple[_Image, ...]
    annos_segmentation: tuple[_Annotation, ...]


def read_annotations(file: Entry) -> dict[Part, dict[str, RleLabel]]:
    """Read the annotations of every image.

    Args:
        file: `trainval_merged.json`; it is parsed once and wholly.

    Returns:
        By part (the image's `phase`) and image (file name without ending, sorted), what is annotated. An image without
        annotations has an empty list: all of it is ignored.

    Raises:
        UserError: The file is no JSON, or cut off; keys are missing or have other values than they may (all problems
            with their places); an image stands there twice; an annotation has another size than its image; or images
            have no annotation while there are annotations of images that are not listed. Of such alone, which are those
            of other phases, nothing is taken.
    """
    try:
        content = _File.model_validate_json(file.read())
    except ValidationError as error:
        raise _explain(error, file) from error
    stems = [PurePosixPath(image.file_name).stem for image in content.images]
    segments = defaultdict[int, list[tuple[int, str | tuple[int, ...]]]](list)
    for annotation in content.annos_segmentation:
        segments[annotation.image_id].append((annotation.category_id, annotation.segmentation.counts))
    problems = _contradictions(content, stems, file)
    if problems:
        raise problem_list(problems)
    labels: dict[Part, dict[str, RleLabel]] = {"train": {}, "val": {}}
    for stem, image in sorted(zip(stems, content.images, strict=True), key=lambda pair: pair[0]):
        labels[image.phase][stem] = RleLabel(
            f"{file}, image {image.file_name}", image.height, image.width, tuple(segments[image.image_id])
        )
    return labels


def _contradictions(content: _File, stems: Sequence[str], file: Entry) -> list[str]:
    by_id = {image.image_id: image for image in content.images}
    counts = Counter([*stems, *(image.image_id for image in content.images)])
    problems = [
        f"{file}: the image {which} stands there {count} times." for which, count in counts.items() if count > 1
    ]
    for number, annotation in enumerate(content.annos_segmentation):
        image = by_id.get(annotation.image_id)
        if image and annotation.segmentation.size != (image.height, image.width):
            height, width = annotation.segmentation.size
            problems.append(
                f"{file}: annos_segmentation[{number}] has {width} x {height} pixels, "
                f"its image {image.file_name} {image.width} x {image.height}."
            )
    annotated = {annotation.image_id for annotation in content.annos_segmentation}
    strangers, bare = annotated - by_id.keys(), by_id.keys() - annotated
    if strangers and bare:
        problems.append(
            f"{file}: annos_segmentation names {len(strangers)} images that are not in images ({min(strangers)}), "
            f"while {len(bare)} of those there have no annotation ({by_id[min(bare)].file_name})."
        )
    return problems


def _explain(error: ValidationError, file: Entry) -> UserError:
    """Turn pydantic's findings into sentences with the place."""
    findings = error.errors(include_url=False)
    if findings[0]["type"] == "json_invalid":
        return UserError(f"{file} is no valid JSON ({findings[0]['ctx']['error']}). Is it cut off? Fetch it again.")
    if any(len(finding["loc"]) <= 1 for finding in findings):
        return UserError(
            f"{file} is no annotation of PASCAL Context: trainval_merged.json has the lists images and "
            "annos_segmentation."
        )
    problems = []
    for finding in findings:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in finding["loc"]).removeprefix(".")
        told = "is missing" if finding["type"] == "missing" else f"is {finding['input']!r}: {finding['msg']}"
        problems.append(f"{file}: {place} {told}.")
    return problem_list(problems)
