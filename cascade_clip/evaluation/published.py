"""Figures of the paper, for comparison with those measured here."""

import json
from functools import cache
from importlib import resources
from typing import Any

from cascade_clip.data.catalogue import find_benchmark, get_split, split_names
from cascade_clip.errors import UserError, closest
from cascade_clip.evaluation.scores import harmonic_mean


@cache
def published_results() -> dict[str, Any]:
    """All tables of the paper as keyed in `published.json`."""
    text = resources.files("cascade_clip.evaluation").joinpath("published.json").read_text(encoding="utf-8")
    return json.loads(text)


def paper_figures(table: str, row: str, split: str) -> dict[str, float] | None:
    """Figures of one row of the paper for one split; None: the paper has none.

    Args:
        table: Key of the table, for example "table2_sota" or "table2"; "table10_hosts/fully_supervised" names one of
            its sections, which is needed where several hold a row of the same name (else the first is taken).
        row: Name of the row, for example "Cascade-CLIP".
        split: Name of the split, for example "coco-seen".

    Gives `miou_seen`, `miou_unseen` and `hiou` in percent (hIoU computed, to one decimal, where the table leaves it
    out). Raises UserError for no such table, section or row.
    """
    given, _, section = table.partition("/")
    tables, name = published_results(), table_key(given)
    sections = {key: rows for key, rows in tables[name].items() if key not in {"datasets", "note"}}
    if section and section not in sections:
        raise UserError(f'Table "{name}" of the paper has no section "{section}".{closest(section, sections)}')
    rows = sections[section] if section else [entry for entries in sections.values() for entry in entries]
    found = next((entry for entry in rows if entry.get("name") == row), None)
    if found is None:
        known = (entry["name"] for entry in rows if "name" in entry)
        raise UserError(f'Table "{table}" of the paper has no row "{row}".{closest(row, known)}')
    # Fully supervised splits and datasets of one's own have no figure.
    built_in = get_split(split) if split in split_names() else None
    facts = find_benchmark(built_in.dataset) if built_in and built_in.unseen else None
    if built_in is None or facts is None or facts.paper not in tables[name].get("datasets", []):
        return None
    return _figures(found, built_in.dataset)


def table_key(name: str) -> str:
    """The key of a table in `published.json`, given as it is or by its number alone ("table8"), else UserError."""
    tables = published_results()
    for key in tables:
        if name.lower() in (key, key.partition("_")[0]):
            return key
    raise UserError(f'The paper has no table "{name}".{closest(name, tables)}')


def what_is_compared(table: str, split: str, *, found: bool) -> str:
    """Say whether a table of the paper has figures beside those of a split (`found`), and of which splits they are."""
    key = table_key(table)
    shown = key.partition("_")[0].replace("table", "Table ")
    if found:
        return f"Beside: the paper's {shown}, {split}."
    datasets = published_results()[key].get("datasets", [])
    of = [
        name
        for name in split_names()
        if (other := get_split(name)).unseen
        and (facts := find_benchmark(other.dataset)) is not None
        and facts.paper in datasets
    ]
    return f"The paper's {shown} has figures for {' and '.join(of)} only, so none are shown here."


def _figures(entry: dict[str, Any], dataset: str) -> dict[str, float] | None:
    """Figures of one row; in tables of several datasets the columns begin with the name of theirs."""
    columns = (
        (f"{dataset}_S", f"{dataset}_U", f"{dataset}_h") if f"{dataset}_S" in entry else ("mIoU_S", "mIoU_U", "hIoU")
    )
    seen, unseen, harmonic = (entry.get(column) for column in columns)
    if seen is None or unseen is None:
        return None
    if harmonic is None:
        harmonic = round(harmonic_mean(seen, unseen), 1)
    return {"miou_seen": seen, "miou_unseen": unseen, "hiou": harmonic}
