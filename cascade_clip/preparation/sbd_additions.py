"""The SBD additions to VOC 2012: masks of more images, as SBD's own MATLAB files or as PNG (SegmentationClassAug)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade_clip.errors import UserError
from cascade_clip.preparation.source_files import lines_of
from cascade_clip.preparation.source_tree import Entry, SourceTree

SPOOLED = ("cls", "dataset/train.txt", "dataset/val.txt", "SegmentationClassAug")
"""What is read of SBD's archive, whatever the images, which VOC 2012 has too."""


@dataclass(frozen=True)
class Additions:
    """Masks that are added to VOC's own."""

    kind: str
    """ "SBD" or "SegmentationClassAug"."""
    masks: dict[str, Entry]
    """By image."""
    stems: frozenset[str]
    """The images that SBD's own lists name; without these lists, all that have a mask."""
    lists: tuple[Entry, ...] = ()


def find_additions(tree: SourceTree) -> Additions | None:
    """Look for the additions; SBD's own files are taken before SegmentationClassAug.

    Args:
        tree: SBD's folder `benchmark_RELEASE`, one in it or above it, `benchmark.tgz`, or a folder or archive with
            `SegmentationClassAug`.

    Returns:
        The additions; None where there are none.

    Raises:
        UserError: They are there more than once, or their archive is damaged.
    """
    for folder in ("dataset/cls", "cls"):
        masks = tree.folder(folder, (".mat",))
        if masks:
            base = next(iter(masks.values())).place.parents[1].name
            lists = [entry for part in ("train", "val") if (entry := tree.file(f"{base}/{part}.txt"))]
            if len(lists) < 2:
                return Additions("SBD", masks, frozenset(masks))
            named = frozenset(line for entry in lists for line in lines_of(entry, "list of SBD") if line)
            return Additions("SBD", masks, named, tuple(lists))
    masks = tree.folder("SegmentationClassAug", (".png",))
    return Additions("SegmentationClassAug", masks, frozenset(masks)) if masks else None


def find_images(additions: Additions, source: Path, spool: Path, stems: Collection[str]) -> dict[str, Entry]:
    """Look for images that VOC 2012 lacks in SBD's own folder of images.

    Args:
        additions: What was found in `source`.
        source: The same source as the tree's.
        spool: Folder for what is needed of a compressed archive; whoever calls clears it.
        stems: The images.

    Returns:
        Those that are there.
    """
    base = next(iter(additions.masks.values())).place.parents[1].name
    tree = SourceTree.open([source], spool=spool, spooled=[f"{base}/img/{stem}.jpg" for stem in sorted(stems)])
    found = tree.folder(f"{base}/img", (".jpg",))
    return {stem: entry for stem, entry in found.items() if stem in stems}


def read_mat(entry: Entry) -> NDArray[np.uint8]:
    """Read one of SBD's MATLAB files.

    Args:
        entry: A file of `dataset/cls`.

    Returns:
        (H, W) uint8: 0 background, 1..20 the classes of VOC.

    Raises:
        UserError: The file cannot be read, is broken, or holds something else; SciPy is missing.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise UserError("SBD's .mat files need SciPy: pip install 'cascade-clip[data]'.") from error
    content = entry.read()
    broken = (EOFError, IndexError, KeyError, NotImplementedError, OSError, TypeError, ValueError, struct.error)
    try:
        mask = np.asarray(loadmat(io.BytesIO(content))["GTcls"][0]["Segmentation"][0])
    except (*broken, zlib.error, MatReadError) as error:
        raise UserError(f"{entry} cannot be read as a segmentation of SBD ({error}).") from error
    if mask.ndim != 2 or mask.dtype.kind not in "ui" or mask.size == 0 or mask.max() > 255 or mask.min() < 0:
        raise UserError(f"{entry} cannot be read as a segmentation of SBD (it holds {mask.shape} {mask.dtype}).")
    return mask.astype(np.uint8)
