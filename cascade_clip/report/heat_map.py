"""Layer similarity as heat maps: side by side, the last block's row framed, neighbours marked (paper, Figure 4)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.errors import UserError
from cascade_clip.files import write_files
from cascade_clip.report.figures import BOTH, HIGHLIGHT, SEQUENTIAL, hex_colour, new_figure, png_bytes
from cascade_clip.report.palette import INK, PALE_INK, PAPER, Colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.spines import Spine

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in inches."""
CELL, SMALLEST_MAP, LARGEST_MAP = 0.33, 3.0, 7.0
"""Side of a cell in inches; fewer cells are larger and more are smaller, so that a map's longer side stays between."""
READABLE_CELL = 0.24
"""Cells as large as this have their value written in."""
MARGIN, HEADING, GAP, LEGEND = 0.15, 0.5, 0.25, 0.25
BAR, BAR_WIDTH, TALLEST_BAR = 0.75, 0.16, 4.0
"""Room for the colour bar, its width, and its greatest height."""
CHARACTER = 0.092
"""Mean width of a title's character."""
LONGEST_MODEL = 32
LAST_BLOCK, NEIGHBOURS = HIGHLIGHT, BOTH
"""Colours of the frames."""
_BLOCK = "block "


def write_heat_map(
    folder: Path, similarities: Sequence[LayerSimilarity], record: Mapping[str, Any]
) -> tuple[Path, Path, Path]:
    """Write cka.png, cka.csv and cka.json.

    Args:
        folder: Folder to write to; made where it does not exist.
        similarities: At least one.
        record: What the JSON holds.

    Returns:
        The three files.

    Raises:
        UserError: The folder cannot be written to; then none of the three is left half-written.
    """
    files = folder / "cka.png", folder / "cka.csv", folder / "cka.json"
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    contents = heat_map_png(similarities), similarity_csv(similarities).encode(), text.encode()
    try:
        write_files(dict(zip(files, contents, strict=True)))
    except OSError as error:
        raise UserError(
            f'The heat map cannot be written to "{folder}": {error.strerror or error}. Choose another --output.'
        ) from error
    return files


def similarity_csv(similarities: Sequence[LayerSimilarity]) -> str:
    """All values as a table with a line a cell: tokens, row_model, row, column_model, column, cka."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["tokens", "row_model", "row", "column_model", "column", "cka"])
    for similarity in similarities:
        for (row, column), value in np.ndenumerate(similarity.matrix):
            sides = (similarity.row_model, similarity.rows[row], similarity.column_model, similarity.columns[column])
            lines.writerow([similarity.tokens, *sides, repr(float(value))])
    return text.getvalue()


def heat_map_png(similarities: Sequence[LayerSimilarity]) -> bytes:
    """Draw matrices with one colour scale from 0 to 1 and cells of one size, those of one kind of tokens in one row.

    Args:
        similarities: At least one.

    Returns:
        A PNG.
    """
    kinds = list(dict.fromkeys(similarity.tokens for similarity in similarities))
    by_kind = [[s for s in similarities if s.tokens == kind] for kind in kinds]
    cell = _cell(similarities)
    places, (width, height) = _places(by_kind, cell)
    with new_figure(width, height) as figure:
        figure.set_layout_engine("none")
        images = []
        for similarity, (x, y, right, bottom) in places:
            place = figure.add_axes((x / width, 1 - bottom / height, (right - x) / width, (bottom - y) / height))
            images.append(_draw(place, similarity, cell))
        first = places[0][1]
        tall = min(first[3] - first[1], TALLEST_BAR)
        bar = ((width - BAR) / width, 1 - (first[1] + tall) / height, BAR_WIDTH / width, tall / height)
        drawn = figure.colorbar(images[0], cax=figure.add_axes(bar), label="linear CKA")
        cast("Spine", drawn.outline).set_visible(False)
        _explain(figure, similarities, height)
        return png_bytes(figure)


def short_value(value: float) -> str:
    """A similarity in at most four characters: ".87", "1", "-.02"."""
    rounded = f"{value:.2f}"
    return "1" if rounded == "1.00" else "0" if rounded in {"0.00", "-0.00"} else rounded.replace("0.", ".", 1)


def _cell(similarities: Iterable[LayerSimilarity]) -> float:
    longest: int = max(max(s.matrix.shape) for s in similarities)
    return min(max(CELL, SMALLEST_MAP / longest), LARGEST_MAP / longest)


def _places(
    by_kind: Sequence[Sequence[LayerSimilarity]], cell: float
) -> tuple[list[tuple[LayerSimilarity, Box]], tuple[float, float]]:
    """Where each matrix stands, and the size of the whole figure, in inches from its upper left corner."""
    columns = max(map(len, by_kind))
    widths, labels = [0.0] * columns, [0.0] * columns
    for row in by_kind:
        for column, similarity in enumerate(row):
            widths[column] = max(widths[column], cell * len(similarity.columns))
            labels[column] = max(labels[column], _room(similarity.rows))
    places: list[tuple[LayerSimilarity, Box]] = []
    y = MARGIN
    for row in by_kind:
        y, x = y + HEADING, MARGIN
        for column, similarity in enumerate(row):
            x += labels[column]
            corner = x + cell * len(similarity.columns), y + cell * len(similarity.rows)
            places.append((similarity, (x, y, *corner)))
            x += widths[column] + GAP
        y += max(cell * len(similarity.rows) + _room(similarity.columns) for similarity in row) + GAP
    return places, (MARGIN + sum(labels) + sum(widths) + GAP * columns + BAR, y + LEGEND)


def _room(names: Sequence[str]) -> float:
    """What an axis needs for its labels and its name."""
    return 0.55 if _only_blocks(names) else 0.35 + 0.075 * max(map(len, names))


def _draw(axes: Axes, similarity: LayerSimilarity, cell: float) -> AxesImage:
    image = axes.imshow(similarity.matrix, cmap=SEQUENTIAL, vmin=0, vmax=1)
    axes.set_title(_shortened(similarity.title, int(cell * len(similarity.columns) / CHARACTER)), pad=19)
    pale = hex_colour(PALE_INK)
    axes.annotate(
        similarity.basis, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", size=7.5, color=pale
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    turn = 0 if _only_blocks(similarity.columns) else 90
    axes.set_xticks(range(len(similarity.columns)), _short_names(similarity.columns), rotation=turn)
    axes.set_yticks(range(len(similarity.rows)), _short_names(similarity.rows))
    axes.set_xlabel(_axis_name(similarity.columns, similarity.column_model, similarity))
    axes.set_ylabel(_axis_name(similarity.rows, similarity.row_model, similarity))
    if cell >= READABLE_CELL:
        _write_values(axes, similarity, image)
    _mark(axes, similarity)
    return image


def _short_names(names: Sequence[str]) -> list[str]:
    """Numbers alone where all layers are blocks; the axis says so."""
    return [name.removeprefix(_BLOCK) for name in names] if _only_blocks(names) else list(names)


def _only_blocks(names: Sequence[str]) -> bool:
    return all(name.startswith(_BLOCK) for name in names)


def _axis_name(names: Sequence[str], model: str, similarity: LayerSimilarity) -> str:
    kind = "block" if _only_blocks(names) else "layer"
    crossed = similarity.row_model != similarity.column_model
    return f"{kind} of {_shortened(model, LONGEST_MODEL)}" if crossed else kind


def _shortened(text: str, most: int) -> str:
    """A text whose end says most, as a path's."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _write_values(axes: Axes, similarity: LayerSimilarity, image: AxesImage) -> None:
    for (row, column), value in np.ndenumerate(similarity.matrix):
        red, green, blue, _ = image.cmap(float(value))
        # Relative luminance without gamma is enough to tell which ink stands out.
        ink = PAPER if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else INK
        axes.text(column, row, short_value(value), size=6.5, ha="center", va="center", c=hex_colour(ink))


def _mark(axes: Axes, similarity: LayerSimilarity) -> None:
    from matplotlib.patches import Rectangle

    for row, column in similarity.neighbours:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **_frame(NEIGHBOURS, 1.3)))
    if similarity.last_block is not None:
        width = len(similarity.columns)
        axes.add_patch(Rectangle((-0.5, similarity.last_block - 0.5), width, 1, **_frame(LAST_BLOCK, 2.2)))


def _frame(colour: Colour, width: float) -> dict[str, Any]:
    return {"fill": False, "edgecolor": hex_colour(colour), "linewidth": width, "clip_on": False}


def _explain(figure: Figure, similarities: Sequence[LayerSimilarity], height: float) -> None:
    from matplotlib.patches import Patch

    marks = []
    if any(similarity.last_block is not None for similarity in similarities):
        marks.append(Patch(label="last block with all layers", **_frame(LAST_BLOCK, 2.2)))
    if any(similarity.neighbours for similarity in similarities):
        marks.append(Patch(label="neighbouring blocks", **_frame(NEIGHBOURS, 1.3)))
    if marks:
        corner = (MARGIN / figure.get_figwidth(), MARGIN / height)
        figure.legend(handles=marks, loc="lower left", bbox_to_anchor=corner, ncols=2, fontsize=8, borderaxespad=0)
