"""What `prepare-data` shows of a prepared dataset."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip_cli.console import stdout
from cascade_clip_cli.tables import write_json


def show_dataset(output: Path, info: DatasetInfo, json_file: Path | None) -> None:
    """Print counts, sizes and pixels of each class, or write the same as JSON where asked for."""
    if json_file is not None:
        write_json(json_file, info.model_dump(mode="json"))
    if json_file == Path("-"):
        return
    stdout.print(_pixel_table(info))
    for part, content in info.parts.items():
        sizes = ""
        if content.smallest and content.largest:
            (low_h, low_w), (high_h, high_w) = content.smallest, content.largest
            sizes = f", {low_w} x {low_h} to {high_w} x {high_h} pixels"
        stdout.print(f"{part}: {content.images} images{sizes}")
    stdout.print(f"Written to {output}", markup=False)


def _pixel_table(info: DatasetInfo) -> Table:
    """Pixels and share of each class, a pair of columns a part."""
    table = Table("class", title=f"{info.name}: {len(info.classes)} classes", title_justify="left")
    rows = [[Text(name)] for name in (*info.classes, "ignored")]
    for part, content in info.parts.items():
        table.add_column(f"{part} pixels", justify="right")
        table.add_column("share", justify="right")
        pixels = (*content.pixels, content.ignored_pixels)
        whole = sum(pixels) or 1
        for row, count in zip(rows, pixels, strict=True):
            row += [Text(f"{count:,}"), Text(f"{count / whole:.1%}")]
    for row in rows:
        table.add_row(*row)
    return table
