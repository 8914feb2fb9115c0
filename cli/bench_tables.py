"""What `cascade-clip bench` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from cascade_clip_cli.console import stdout
from cascade_clip_cli.tables import MISSING

_COLOURS = {"faster": "green", "slower": "red", "spread too wide": "yellow"}


def show_record(record: Mapping[str, Any]) -> None:
    """Print times, ratios, memory, rooms and facts of one measurement."""
    stdout.print(_subjects(record))
    stdout.print(_costs(record))
    if record["rooms_ms"]:
        stdout.print(_rooms(record["rooms_ms"]))
    if record["facts"]:
        stdout.print(_facts(record), highlight=False)


def show_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Print ratios and memory of an earlier and this measurement, with what can be concluded."""
    from cascade_clip.bench.against import changes_since, different_settings

    table = _table("ratios against the earlier result")
    changes = changes_since(before, after)
    with_memory = any(None not in (change.memory_before, change.memory_after) for change in changes)
    for heading in ("before", "now", "quotient"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    if with_memory:
        table.add_column("MiB above build", justify="right", no_wrap=True)
    for change in changes:
        colour = _COLOURS.get(change.verdict, "dim")
        ratios = [f"{ratio:.3f}" for ratio in (change.before, change.after, change.quotient)]
        memory = [_memory(change.memory_before, change.memory_after)] if with_memory else []
        table.add_row(escape(change.subject), *ratios, f"[{colour}]{change.verdict}", *memory)
    differences = different_settings(before, after)
    if differences:
        table.caption = escape(f"Not only the code differs: {'; '.join(differences)}.")
    stdout.print(table)


def _subjects(record: Mapping[str, Any]) -> Table:
    settings, environment = record["settings"], record["environment"]
    height, width = settings["size"]
    table = _table(
        f"bench {settings['kind']}, {height} x {width}, {settings['precision']}, {environment['device']},"
        f" {environment['threads']} threads: median of {settings['repeats']} rounds"
    )
    for heading in ("ms an image", "spread", "ratio", "its spread", "images/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in record["subjects"].items():
        table.add_row(
            escape(name),
            f"{figures['median_ms']:.1f}",
            _percent(figures["spread"]),
            f"[bold]{figures['ratio']:.3f}",
            _percent(figures["ratio_spread"]),
            f"{figures['images_per_second']:.2f}",
        )
    return table


def _costs(record: Mapping[str, Any]) -> Table:
    """First turns, operations and memory, as far as they were measured."""
    table = _table("first turn, operations, peak memory")
    with_memory = "memory" in record["subjects"][record["reference"]]
    with_operations = "gflops" in record["subjects"][record["reference"]]
    headings = ["first turn", *(["GFLOP an image"] * with_operations), *(["memory", "above build"] * with_memory)]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in record["subjects"].items():
        cells = [f"{figures['first_turn_ms']:.0f} ms"]
        if with_operations:
            cells.append(f"{figures['gflops']:.1f}")
        if with_memory:
            memory = figures["memory"]
            cells += [_mebibytes(memory["host_mib"]), _mebibytes(memory["host_above_build_mib"])]
        table.add_row(escape(name), *cells)
    if with_memory:
        table.caption = "memory: of a process of its own; above build: beyond imports and weights"
        devices = [
            f"{name} {_mebibytes(figures['memory']['device_mib'])}"
            for name, figures in record["subjects"].items()
            if "device_mib" in figures["memory"]
        ]
        if devices:
            table.caption += escape(f"; on the device: {', '.join(devices)}")
    return table


def _rooms(rooms: Mapping[str, float]) -> Table:
    table = _table("where the time goes, in passes of their own")
    for heading in ("ms", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    whole = sum(rooms.values())
    for room, milliseconds in rooms.items():
        table.add_row(room, f"{milliseconds:.1f}", _percent(milliseconds / whole))
    return table


def _facts(record: Mapping[str, Any]) -> str:
    facts, sentences = record["facts"], []
    if "parameters" in facts:
        counts = {name: f"{count / 1e6:.1f} M" for name, count in facts["parameters"].items()}
        sentences.append(
            f"{counts['total']} parameters, {counts['trainable']} train, {counts['reached']} get a gradient."
        )
    if "images_per_second_of_a_loader" in facts:
        sentences.append(f"A loader process makes {facts['images_per_second_of_a_loader']:.1f} images/s.")
    if "labels_equal_to_fp32" in facts:
        sentences.append(f"{100 * facts['labels_equal_to_fp32']:.2f} % of the labels are those of fp32.")
    if "matrix_product_gflops_per_second" in record:
        name, figures = list(record["subjects"].items())[1]
        sentences.append(
            f"A matrix product runs at {record['matrix_product_gflops_per_second']:.0f} GFLOP/s,"
            f" {name} at {100 * figures['share_of_matrix_rate']:.0f} % of that."
        )
    return escape("\n".join(sentences))


def _memory(before: float | None, after: float | None) -> str:
    return " -> ".join(MISSING if amount is None else f"{amount:,.0f}" for amount in (before, after))


def _mebibytes(amount: float) -> str:
    return f"{amount:,.0f} MiB"


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f} %"


def _table(title: str) -> Table:
    """A table whose first column holds names."""
    table = Table(
        title=escape(title), title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("", no_wrap=True)
    return table
