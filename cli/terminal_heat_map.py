"""Layer similarity in the terminal: a heat map of coloured cells with their values, and a summary."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cascade_clip.analysis import layer_similarity
from cascade_clip.drawing import palette
from cascade_clip.report import heat_map as report_heat_map
from cascade_clip_cli.tables import MISSING

MARK = " ◀"
"""Marks the row that the figure frames."""
BETWEEN = 4
"""Columns between two heat maps."""


def heat_maps(similarities: Sequence[layer_similarity.LayerSimilarity], width: int) -> RenderableType:
    """Heat maps beside each other where `width` characters are wide enough, else below each other."""
    maps = [heat_map(similarity, width) for similarity in similarities]
    beside = max(cell_len(str(line)) for lines in maps for line in lines) + BETWEEN
    if len(maps) > 1 and 2 * beside <= width:
        return Columns([Group(*lines) for lines in maps], padding=(1, BETWEEN))
    return Group(*(line for lines in maps for line in (*lines, Text())))


def heat_map(similarity: layer_similarity.LayerSimilarity, width: int) -> list[Text]:
    """The lines of one matrix: layers from shallow to deep, the last block's row is marked."""
    rows = [_short(name) for name in similarity.rows]
    # Above a narrow column a stage has only its deepest block's number.
    columns = [name[:1] + name.split("-")[-1] if "-" in name else name for name in map(_short, similarity.columns)]
    margin = max(map(len, rows))
    # Narrower cells where the terminal is too narrow; their colours keep them apart.
    cell = 4 if margin + 4 * len(columns) + len(MARK) < width else 3
    head = Text(" " * margin + "".join(f"{name[:cell]:>{cell}}" for name in columns), style="dim")
    lines = [Text(similarity.title, style="bold"), Text(similarity.basis, style="dim"), head]
    for row, name in enumerate(rows):
        line = Text(f"{name:>{margin}}", style="dim")
        for value in similarity.matrix[row]:
            red, green, blue = palette.sequential_colour(float(value))
            ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 128 else "black"
            line.append(
                f"{report_heat_map.short_value(float(value))[:cell]:>{cell}}",
                style=f"{ink} on rgb({red},{green},{blue})",
            )
        if row == similarity.last_block:
            line.append(MARK, style="bold")
        lines.append(line)
    return lines


def summary_table(similarities: Sequence[layer_similarity.LayerSimilarity]) -> Table:
    """Of each matrix the mean similarity of neighbouring blocks, and of the last block with all earlier ones."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "tokens", "neighbouring blocks", "last block with earlier ones"):
        table.add_column(heading, justify="left" if heading in {"", "tokens"} else "right")
    for similarity in similarities:
        figures = (similarity.mean_of_neighbours, similarity.mean_of_last_row)
        shown = (MISSING if math.isnan(value) else f"{value:.2f}" for value in figures)
        table.add_row(Text(similarity.title), similarity.tokens, *shown)
    return table


def _short(name: str) -> str:
    """ "block 7" is 7 here, "tap 7" t7 and "stage 6-8" s6-8, so that a column takes few characters."""
    kind, _, number = name.partition(" ")
    return number if kind == "block" else kind[0] + number
