"""How fast a dataset was prepared, seen beside a plain copy of its files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from cascade_clip.errors import UserError
from cascade_clip.preparation.shards import Sample
from cascade_clip.preparation.source_tree import Entry


@dataclass(frozen=True)
class PreparationSpeed:
    """What a preparation took."""

    images: int
    """Images prepared; those that an earlier run had finished are not among them."""
    seconds: float
    bytes_on_disk: int
    """Length of all files of the prepared dataset."""
    copied_per_second: float | None = None
    """Images/s of a plain copy of the source's files; None: it was not measured."""

    @property
    def images_per_second(self) -> float:
        """Images prepared a second; 0 where there were none."""
        return self.images / self.seconds if self.images else 0.0

    @property
    def share_of_copy(self) -> float | None:
        """Speed as a multiple of the plain copy's; None where either is unknown."""
        return self.images_per_second / self.copied_per_second if self.images and self.copied_per_second else None

    def __str__(self) -> str:
        """One line: "123,287 images in 812.0 s: 151.8 images/s, 0.42 of a plain copy of the files; 20.0 GB on disk"."""
        disk = f"{_decimal(self.bytes_on_disk)} on disk"
        if not self.images:
            return f"All images were finished before; {disk}"
        share = f", {self.share_of_copy:.2f} of a plain copy of the files" if self.share_of_copy else ""
        return f"{self.images:,} images in {self.seconds:.1f} s: {self.images_per_second:.1f} images/s{share}; {disk}"


def plain_copy_speed(samples: Iterable[Sample], folder: Path, *, limit_bytes: int = 64 << 20) -> float | None:
    """Measure how fast the files of a dataset can be copied, doing nothing else with them.

    The first samples' images and masks are read from where they lie, archives included, and written into files. Measure
    before preparing: what was just read comes from memory the next time.

    Args:
        samples: Samples whose payload is a dataclass with `Entry` fields, for example `EntryPair`; others count as
            having no files.
        folder: An existing folder on the disk to write to; what is written there is removed again.
        limit_bytes: Stop after the sample that reaches so many bytes.

    Returns:
        Images/s; None where there was nothing to copy, or a file could not be read or written: to say so is the
        preparation's part.
    """
    copied = amount = 0
    try:
        with TemporaryDirectory(prefix=".copy-speed-", dir=folder) as target:
            begin = perf_counter()
            for sample in samples:
                if amount >= limit_bytes:
                    break
                contents = [entry.read() for entry in _entries(sample.payload)]
                for index, content in enumerate(contents):
                    Path(target, f"{copied}-{index}").write_bytes(content)
                    amount += len(content)
                copied += bool(contents)
            seconds = perf_counter() - begin
    except (OSError, UserError):
        return None
    return copied / seconds if copied else None


def bytes_on_disk(folder: Path) -> int:
    """Length of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _entries(payload: object) -> list[Entry]:
    """The files in a sample's payload."""
    if not is_dataclass(payload):
        return []
    values = (getattr(payload, field.name) for field in fields(payload))
    return [value for value in values if isinstance(value, Entry)]


def _decimal(amount: float) -> str:
    """Bytes in the largest decimal unit below them, as disks are sold."""
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
