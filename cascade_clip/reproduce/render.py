"""A table's results as rows of text, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascade_clip.reproduce.results import RowResult, TableResult
from cascade_clip.reproduce.runs import FIGURES

MISSING = "–"
PAPER_FIGURES = ("miou_seen", "miou_unseen", "hiou")
HEADINGS = {"miou_seen": "seen mIoU", "miou_unseen": "unseen mIoU", "hiou": "hIoU", "pixel_accuracy": "pixel acc."}


@dataclass(frozen=True)
class TextRow:
    """A row as it is shown.

    Attributes:
        section: Part of the table; none where it has no parts.
        name: Name of the row.
        here: A figure for each of `FIGURES`, with its spread.
        paper: The paper's "seen / unseen / hIoU"; empty where it has none.
        notes: Remarks on the row.
    """

    section: str | None
    name: str
    here: tuple[str, ...]
    paper: str
    notes: str


def text_rows(result: TableResult) -> list[TextRow]:
    """Put every row into text: "41.1 ± 0.3" over seeds, no ± for a single one, "–" where there is no figure."""
    return [_text_row(row) for row in result.rows]


def to_markdown(result: TableResult) -> str:
    """The table as Markdown, with a heading, the columns that it needs, and what failed below it."""
    rows = text_rows(result)
    headings = ["", *(HEADINGS[name] for name in FIGURES)]
    with_paper, with_notes = any(row.paper for row in rows), any(row.notes for row in rows)
    headings += ["paper: seen / unseen / hIoU"] if with_paper else []
    headings += [""] if with_notes else []
    lines = [f"### {result.plan.table.title} ({result.plan.split})", "", caption(result), ""]
    lines += [_line(headings), _line(["---", *["---:"] * len(FIGURES), *["---"] * (len(headings) - 1 - len(FIGURES))])]
    section = None
    for row in rows:
        if row.section != section:
            section = row.section
            lines.append(_line([f"*{(section or '').replace('_', ' ')}*", *[""] * (len(headings) - 1)]))
        cells = [row.name, *row.here]
        cells += [row.paper] if with_paper else []
        cells += [row.notes] if with_notes else []
        lines.append(_line([_escaped(cell) for cell in cells]))
    return "\n".join(lines)


def caption(result: TableResult) -> str:
    """What the figures are, in one sentence."""
    seeds = max((len(row.runs) for row in result.rows), default=0)
    over = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    steps = sorted({run.run.steps for row in result.rows for run in row.runs if run.run.steps})
    trained = f"; {' or '.join(f'{count:,}' for count in steps)} training steps" if steps else ""
    return f"Percent; {over}{trained}."


def _text_row(row: RowResult) -> TextRow:
    here = tuple(_spread(row.mean[name], row.deviation[name]) for name in FIGURES)
    return TextRow(row.plan.row.section, row.plan.row.name, here, _paper(row.plan.row.figures), "; ".join(row.notes))


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return MISSING
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def _paper(figures: Mapping[str, float] | None) -> str:
    return " / ".join(f"{figures[name]:.1f}" for name in PAPER_FIGURES) if figures else ""


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
