"""Layer similarity as heat maps, in files and in a page: the last block framed, neighbours marked (paper, Figure 4)."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.drawing.palette import BOTH, HIGHLIGHT
from cascade_clip.files import json_text
from cascade_clip.output_folder import check_own_files, record_has
from cascade_clip.report.charts import Spec, chart_png, chart_svg, isolated, matrix_chart, printable
from cascade_clip.report.page import flattened, render_page, write_page, write_report

LAST_BLOCK, NEIGHBOURS = HIGHLIGHT, BOTH
TOKENS = {"patch": "Patch tokens", "class": "Class token"}
LONGEST_NAME = 40
_BLOCK = "block "


def write_heat_map(
    folder: Path, similarities: Sequence[LayerSimilarity], record: Mapping[str, Any]
) -> tuple[Path, Path, Path]:
    """Write cka.png, cka.csv and cka.json, which holds the record, or none of them; gives the three files.

    Raises UserError: the folder cannot be written to, or one of the files is there and not ours.
    """
    check_heat_map_folder(folder)
    png, table, whole = files = folder / "cka.png", folder / "cka.csv", folder / "cka.json"
    # The record is moved into place first: without it the others would count as the user's.
    contents = {whole: json_text(record).encode(), table: similarity_csv(similarities).encode()}
    write_report(contents | {png: heat_map_png(similarities)}, "heat map")
    return files


def check_heat_map_folder(folder: Path) -> None:
    """Check before the work that the heat map can be written without replacing a file of the user's.

    Raises UserError: one of its files is there without a record of ours.
    """
    files = [folder / name for name in ("cka.png", "cka.csv", "cka.json")]
    check_own_files(files, record_has(folder / "cka.json", {"matrices"}))


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
    """Draw at least one matrix as PNG with one colour scale from 0 to 1, those of one kind of tokens in one row."""
    rows = []
    for kind in dict.fromkeys(similarity.tokens for similarity in similarities):
        beside = [one for one in similarities if one.tokens == kind]
        rows.append({"hconcat": [{**similarity_chart(one), "title": _heading(one)} for one in beside], "spacing": 30})
    notes = []
    if any(similarity.last_block is not None for similarity in similarities):
        notes.append("orange frame: last block with all layers")
    if any(similarity.neighbours for similarity in similarities):
        notes.append("green frames: neighbouring blocks")
    return chart_png({"vconcat": rows, "spacing": 24}, "Linear CKA between layers", notes=notes)


def similarity_chart(similarity: LayerSimilarity) -> Spec:
    """Draw one matrix, its neighbouring blocks and its last block framed."""
    texts = [[short_value(value) for value in row] for row in similarity.matrix]
    says = [
        [
            f"{isolated(row)} × {isolated(column)}: CKA {value:.4f}"
            for column, value in zip(similarity.columns, values, strict=True)
        ]
        for row, values in zip(similarity.rows, similarity.matrix, strict=True)
    ]
    crossed = similarity.row_model != similarity.column_model
    rows, row_axis = _axis(similarity.rows, similarity.row_model if crossed else "")
    columns, column_axis = _axis(similarity.columns, similarity.column_model if crossed else "")
    return matrix_chart(
        similarity.matrix,
        rows,
        columns,
        texts=texts,
        says=says,
        axes=(row_axis, column_axis),
        legend={"title": "linear CKA", "format": ".1f"},
        frames=[(row, column, NEIGHBOURS) for row, column in similarity.neighbours],
        framed_row=None if similarity.last_block is None else (similarity.last_block, LAST_BLOCK),
    )


def short_value(value: float) -> str:
    """A similarity in at most four characters: ".87", "1", "-.02"; a dash where it does not exist."""
    rounded = f"{value:.2f}"
    if rounded == "nan":
        return "–"
    return "1" if rounded == "1.00" else "0" if rounded in {"0.00", "-0.00"} else rounded.replace("0.", ".", 1)


def _heading(similarity: LayerSimilarity) -> Spec:
    text = {"text": _shortened(printable(similarity.title)), "subtitle": similarity.basis}
    return {**text, "fontSize": 12, "offset": 10, "subtitlePadding": 4}


def _axis(names: Sequence[str], model: str) -> tuple[list[str], str]:
    """Names and title of an axis: numbers alone where all layers are blocks, and the model where it is given."""
    blocks = all(name.startswith(_BLOCK) for name in names)
    kind = "block" if blocks else "layer"
    title = f"{kind} of {_shortened(printable(model))}" if model else kind
    return [name.removeprefix(_BLOCK) for name in names] if blocks else list(names), title


def _shortened(text: str) -> str:
    """A text whose end says most, as a path's."""
    return text if len(text) <= LONGEST_NAME else f"…{text[1 - LONGEST_NAME :]}"


def write_cka_report(folder: Path, matrices: Sequence[LayerSimilarity], record: Mapping[str, Any]) -> Path:
    """Write the page of the matrices, those of the same tokens side by side, with what the record says beside them.

    Raises UserError: the folder cannot be written to.
    """
    models = dict.fromkeys(name for matrix in matrices for name in (matrix.row_model, matrix.column_model))
    groups = [
        {
            "heading": TOKENS.get(kind, kind),
            "matrices": [_shown(matrix, k) for k, matrix in enumerate(matrices) if matrix.tokens == kind],
        }
        for kind in dict.fromkeys(matrix.tokens for matrix in matrices)
    ]
    html = render_page(
        "cka.html.jinja",
        title="How alike the layers are" + (f": {', '.join(models)}" if models else ""),
        images=max((matrix.images for matrix in matrices), default=0),
        groups=groups,
        settings=flattened(record),
    )
    return write_page(folder / "index.html", html)


def _shown(similarity: LayerSimilarity, number: int) -> dict[str, Any]:
    """One matrix with the figures that sum it up."""
    neighbours, last_row = similarity.mean_of_neighbours, similarity.mean_of_last_row
    return {
        "similarity": similarity,
        "chart": chart_svg(similarity_chart(similarity), f"CKA: {similarity.title}", name=f"matrix-{number}"),
        "neighbours": "" if math.isnan(neighbours) else f"{neighbours:.2f}",
        "framed": "" if similarity.last_block is None else similarity.rows[similarity.last_block],
        "framed_mean": "" if math.isnan(last_row) else f"{last_row:.2f}",
    }
