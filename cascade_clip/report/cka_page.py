"""The page of a comparison of layers: CKA matrices with their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.report.charts import chart_svg
from cascade_clip.report.heat_map import similarity_chart
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
            "matrices": [_shown(matrix, k) for k, matrix in enumerate(matrices) if matrix.tokens == kind],
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
