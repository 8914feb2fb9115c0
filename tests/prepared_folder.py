"""What a prepared dataset on the disk holds, for comparisons."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset


def labels(folder: Path) -> dict[str, dict[str, NDArray[np.uint8]]]:
    """Every label (H, W) uint8, by part and id, in order."""
    dataset = PreparedDataset.open(folder)
    found: dict[str, dict[str, NDArray[np.uint8]]] = {}
    for part in ("train", "val"):
        records = [dataset.read(part, index) for index in range(dataset.count(part))]  # type: ignore[arg-type]
        found[part] = {record.id: decode_label(record.label_bytes) for record in records}
    return found


def by_id(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """The same by id alone."""
    return {stem: label for found in labels(folder).values() for stem, label in found.items()}


def ids(folder: Path) -> dict[str, list[str]]:
    """Ids of the images of each part, in order."""
    return {part: list(of_part) for part, of_part in labels(folder).items()}


def digests(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """SHA-256 of every file, by path inside the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }
