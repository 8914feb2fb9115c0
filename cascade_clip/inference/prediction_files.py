"""The files of one prediction (cascade_clip/README.md, section 4.6): their names, and whose they are."""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

RECORD, LABELS, OVERLAY = ".json", ".labels.png", ".overlay.png"
EXPLANATION, SCORES, VIDEO_OVERLAY, VIDEO_LABELS = ".explain.png", ".scores.npz", ".overlay.mp4", ".labels"
ENDINGS = (RECORD, LABELS, OVERLAY, EXPLANATION, SCORES, VIDEO_OVERLAY, VIDEO_LABELS)
"""What follows the stem in the names of the files of an image or a video."""
FOLDERS = ("index_files", "yolo", "cvat")
"""Folders beside predictions that hold copies or pictures of their images, at most `MOST_LEVELS` deep."""
MOST_LEVELS = 2
SIMILARITY = ".similarity.png"
"""Maps of `cascade-clip similarity`, whose record is called by the whole name before the suffix."""
_OWN_KEYS = {"names", "models"}
"""One of these keys stands in each of our records of an image: of a prediction, or of patch similarities."""


class PredictionFiles(NamedTuple):
    """Where a prediction was written."""

    labels: Path
    overlay: Path
    record: Path
    explanation: Path | None = None
    scores: Path | None = None


def is_prediction(folder: Path, stem: str) -> bool:
    """Whether a folder holds the record of a prediction of this stem."""
    return _record(folder, stem) is not None


def predicted_source(folder: Path, stem: str) -> str | None:
    """The image or video whose prediction has this stem, see `identity`; None: there is none, or it names none."""
    record = _record(folder, stem) or {}
    source = record.get("image") or record.get("video")
    return identity(source) if isinstance(source, str) else None


def identity(source: str) -> str:
    """One text for one image, however it is named: the address of one on the web, else the path with links resolved."""
    return source if "://" in source else os.path.realpath(source)


def is_taken(
    folder: Path, stem: str, source: str | None, inputs: Collection[Path] = (), endings: Sequence[str] = ENDINGS
) -> bool:
    """Whether files of this stem in a folder belong to something else than the prediction of `source`.

    `source` is path or address of the image; None: it has none, so that no earlier prediction is of the same image.
    `inputs` are files that are read, which no prediction may replace, with links resolved; `endings` those of the files
    that would be written.
    """
    files = [folder / f"{stem}{ending}" for ending in endings]
    there = [file for file in files if os.path.lexists(file)]
    if any(file.resolve() in inputs for file in there):
        return True
    return bool(there) and (source is None or predicted_source(folder, stem) != identity(source))


def is_output(path: Path) -> bool:
    """Whether a file is a picture that the toolkit wrote for a prediction: it or its folder lies beside the record."""
    for entry in (path, *list(path.parents)[:MOST_LEVELS]):
        stems = [entry.name.removesuffix(ending) for ending in ENDINGS if entry.name.endswith(ending)]
        stems += [entry.stem] if entry.name.endswith(SIMILARITY) else []
        if any(is_prediction(entry.parent, stem) for stem in stems):
            return True
        beside = entry.parent.glob(f"*{RECORD}") if entry.name in FOLDERS else ()
        if any(is_prediction(entry.parent, file.stem) for file in beside):
            return True
    return False


def _record(folder: Path, stem: str) -> dict[str, object] | None:
    try:
        record = json.loads((folder / f"{stem}{RECORD}").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.keys() & _OWN_KEYS else None
