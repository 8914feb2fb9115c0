"""The page of a comparison of layers: CKA matrices with their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.report.heat_map import short_value
from cascade_clip.report.matrix_table import matrix_table
from cascade_clip.report.page import flattened, render_page, write_page

TOKENS = {"patch": "Patch tokens", "class": "Class token"}


def write_cka_report(folder: Path, matrices: Sequence[LayerSimilarity], record: Mapping[str, Any]) -> Path:
    """Write the page, whole or not at all.

    Args:
        folder: Folder of the page; made where it does not exist.
        matrices: In the order in which they are shown; those of the same tokens stand side by side.
        record: What the JSON says beside the matrices: model, images, settings.

    Returns:
        folder/index.html, one file with everything inside.

    Raises:
        UserError: The folder cannot be written to.
    """
    kinds = dict.fromkeys(matrix.tokens for matrix in matrices)
    groups = [
        {
            "heading": TOKENS.get(kind, kind),
            "matrices": [_shown(matrix) for matrix in matrices if matrix.tokens == kind],
        }
        for kind in kinds
    ]
    html = render_page(
        "cka.html.jinja",
        title=_heading(matrices),
        images=max((matrix.images for matrix in matrices), default=0),
        groups=groups,
        settings=flattened(record),
    )
    return write_page(folder / "index.html", html)


def _heading(matrices: Sequence[LayerSimilarity]) -> str:
    models = dict.fromkeys(name for matrix in matrices for name in (matrix.row_model, matrix.column_model))
    return f"How alike the layers are: {', '.join(models)}" if models else "How alike the layers are"


def _shown(similarity: LayerSimilarity) -> dict[str, Any]:
    """One matrix with the figures that sum it up."""
    values = similarity.matrix
    marked = np.zeros(values.shape, dtype=bool)
    for cell in similarity.neighbours:
        marked[cell] = True
    framed = similarity.last_block
    table = matrix_table(
        values,
        similarity.rows,
        similarity.columns,
        texts=[[short_value(value) for value in row] for row in values],
        details=[[f"CKA {value:.4f}" for value in row] for row in values],
        marked=marked,
        framed_row=framed,
    )
    name = None if framed is None else similarity.rows[framed]
    others = [j for j, column in enumerate(similarity.columns) if column != name and column.startswith("block ")]
    return {
        "table": table,
        "similarity": similarity,
        "neighbours": f"{values[marked].mean():.2f}" if marked.any() else "",
        "framed": name,
        "framed_mean": f"{values[framed, others].mean():.2f}" if framed is not None and others else "",
    }
