"""Layer similarity as heat maps: side by side, the last block's row framed, neighbours marked (paper, Figure 4)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.errors import UserError
from cascade_clip.files import write_files
from cascade_clip.report.charts import Spec, chart_png, isolated, matrix_chart, printable
from cascade_clip.report.palette import BOTH, HIGHLIGHT

LAST_BLOCK, NEIGHBOURS = HIGHLIGHT, BOTH
"""Colours of the frames."""
LONGEST_NAME = 40
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
    """Draw matrices with one colour scale from 0 to 1, those of one kind of tokens in one row.

    Args:
        similarities: At least one.

    Returns:
        A PNG.
    """
    rows = []
    for kind in dict.fromkeys(similarity.tokens for similarity in similarities):
        beside = [_titled(similarity) for similarity in similarities if similarity.tokens == kind]
        rows.append({"hconcat": beside, "spacing": 30})
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
    return matrix_chart(
        similarity.matrix,
        _short_names(similarity.rows),
        _short_names(similarity.columns),
        texts=texts,
        says=says,
        axes=(
            _axis_name(similarity.rows, similarity.row_model, similarity),
            _axis_name(similarity.columns, similarity.column_model, similarity),
        ),
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


def _titled(similarity: LayerSimilarity) -> Spec:
    heading = {
        "text": _shortened(printable(similarity.title)),
        "subtitle": similarity.basis,
        "fontSize": 12,
        "offset": 10,
        "subtitlePadding": 4,
    }
    return {**similarity_chart(similarity), "title": heading}


def _short_names(names: Sequence[str]) -> list[str]:
    """Numbers alone where all layers are blocks; the axis says so."""
    return [name.removeprefix(_BLOCK) for name in names] if _only_blocks(names) else list(names)


def _only_blocks(names: Sequence[str]) -> bool:
    return all(name.startswith(_BLOCK) for name in names)


def _axis_name(names: Sequence[str], model: str, similarity: LayerSimilarity) -> str:
    kind = "block" if _only_blocks(names) else "layer"
    crossed = similarity.row_model != similarity.column_model
    return f"{kind} of {_shortened(printable(model))}" if crossed else kind


def _shortened(text: str) -> str:
    """A text whose end says most, as a path's."""
    return text if len(text) <= LONGEST_NAME else f"…{text[1 - LONGEST_NAME :]}"
