"""What `cascade-clip bench` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cascade_clip.bench import against
from cascade_clip_cli.console import stdout
from cascade_clip_cli.tables import MISSING, plain_table

_COLOURS = {"faster": "green", "slower": "red", "spread too wide": "yellow"}


def show_record(record: Mapping[str, Any]) -> None:
    """Print times, ratios, memory, parts and facts of one measurement."""
    stdout.print(_times(record))
    stdout.print(_costs(record))
    parts = record["rooms_ms"]
    if parts:
        rows = [(part, f"{ms:.1f}", _percent(ms / sum(parts.values()))) for part, ms in parts.items()]
        stdout.print(_table("where the time goes, in passes of their own", ("ms", "share"), rows))
    if record["facts"]:
        stdout.print("\n".join(_facts(record)))


def show_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Print ratios and memory of an earlier and this measurement, with what can be concluded."""
    rows = [
        (
            change.subject,
            f"{change.before:.3f}",
            f"{change.after:.3f}",
            f"{change.after / change.before:.3f}",
            Text(change.verdict, style=_COLOURS.get(change.verdict, "dim")),
            MISSING if None in change.memory else f"{change.memory[0]:,.0f} -> {change.memory[1]:,.0f} MiB",
        )
        for change in against.changes_since(before, after)
    ]
    headings = ("before", "now", "quotient", "verdict", "above build")
    table = _table("ratios against the earlier result", headings, rows)
    differences = against.different_settings(before, after)
    if differences:
        table.caption = f"Not only the code differs: {'; '.join(differences)}."
    stdout.print(table)


def _times(record: Mapping[str, Any]) -> Table:
    settings, environment = record["settings"], record["environment"]
    height, width = settings["size"]
    title = (
        f"bench {settings['kind']}, {height} x {width}, {settings['precision']}, {environment['device']},"
        f" {environment['threads']} threads: median of {settings['repeats']} rounds"
    )
    rows = [
        (
            name,
            f"{figures['median_ms']:.1f}",
            _percent(figures["spread"]),
            Text(f"{figures['ratio']:.3f}", style="bold"),
            _percent(figures["ratio_spread"]),
            f"{figures['images_per_second']:.2f}",
        )
        for name, figures in record["subjects"].items()
    ]
    return _table(title, ("ms an image", "spread", "ratio", "its spread", "images/s"), rows)


def _costs(record: Mapping[str, Any]) -> Table:
    """First turns, and operations and memory where they were measured."""
    columns: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
        "first turn": lambda figures: f"{figures['first_turn_ms']:.0f} ms",
        "GFLOP an image": lambda figures: f"{figures['gflops']:.1f}" if "gflops" in figures else MISSING,
        "memory": lambda figures: _mebibytes(figures, "host_mib"),
        "above build": lambda figures: _mebibytes(figures, "host_above_build_mib"),
        "on the device": lambda figures: _mebibytes(figures, "device_mib"),
    }
    rows = [(name, *(cell(figures) for cell in columns.values())) for name, figures in record["subjects"].items()]
    table = _table("first turn, operations, peak memory", tuple(columns), rows)
    if "memory" in record["subjects"][record["reference"]]:
        table.caption = "memory: of a process of its own; above build: beyond imports and weights"
    return table


def _facts(record: Mapping[str, Any]) -> Iterable[str]:
    facts = record["facts"]
    if "parameters" in facts:
        counts = {name: f"{count / 1e6:.1f} M" for name, count in facts["parameters"].items()}
        yield f"{counts['total']} parameters, {counts['trainable']} of which train."
    if "images_per_second_of_a_loader" in facts:
        yield f"A loader process makes {facts['images_per_second_of_a_loader']:.1f} images/s."
    if "labels_equal_to_fp32" in facts:
        yield f"{100 * facts['labels_equal_to_fp32']:.2f} % of the labels are those of fp32."
    rates = ", ".join(f"{rate:,.0f} GFLOP/s in {name}" for name, rate in record["matrix_rates"].items())
    shares = [f"{name} {100 * figures['share_of_matrix_rate']:.0f} %" for name, figures in record["subjects"].items()]
    yield (
        f"Matrix products run at {rates} by the fastest library here; shares of the rate in"
        f" {record['settings']['precision']}: {', '.join(shares)}."
    )


def _mebibytes(figures: Mapping[str, Any], key: str) -> str:
    amount = figures.get("memory", {}).get(key)
    return MISSING if amount is None else f"{amount:,.0f} MiB"


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f} %"


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table of names and figures; columns without any figure are left out."""
    rows = list(rows)
    shown = [number for number in range(1, len(headings) + 1) if any(row[number] != MISSING for row in rows)]
    table = plain_table(title)
    table.add_column("", no_wrap=True)
    for number in shown:
        table.add_column(headings[number - 1], justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row[0], *(row[number] for number in shown))
    return table
