"""Two records side by side, with a verdict that respects their spread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cascade_clip.bench.timing import Sample
from cascade_clip.errors import UserError

Verdict = Literal["faster", "slower", "no difference", "spread too wide", "reference"]
_WHAT_DIFFERS = (
    "checkpoint",
    "architecture",
    "recipe",
    "overrides",
    "classes",
    "size",
    "batch",
    "precision",
    "threads",
)


@dataclass(frozen=True)
class Change:
    """One subject then and now.

    Attributes:
        subject: Its name.
        before: Its ratio to the reference in the earlier record.
        after: The same now.
        quotient: `after` / `before`: below 1 it became faster, whatever the machine did in the meantime.
        memory_before: Peak of its process above the built model in MiB; none where it was not measured.
        memory_after: The same now.
        verdict: What can be concluded.
    """

    subject: str
    before: float
    after: float
    quotient: float
    memory_before: float | None
    memory_after: float | None
    verdict: Verdict


def read_record(path: Path) -> dict[str, Any]:
    """Read a record that `bench --json` wrote.

    Raises:
        UserError: The file cannot be read or is no such record.
    """
    try:
        record: dict[str, Any] = json.loads(path.expanduser().read_text(encoding="utf-8"))
        if {"settings", "subjects", "reference"} <= record.keys():
            return record
    except OSError as error:
        raise UserError(f'The earlier result "{path}" cannot be read: {error.strerror or error}.') from error
    except (ValueError, AttributeError) as error:
        raise UserError(f'"{path}" is no result of `cascade-clip bench`: {error}.') from error
    raise UserError(f'"{path}" is no result of `cascade-clip bench`: give a file that its --json wrote.')


def changes_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare the subjects that both records hold, in the order of the later one.

    Ratios to the reference of the same run are compared, not seconds: they are what two runs have in common. Two
    medians count as different where their notches do not overlap, and not at all where either spreads too much.

    Raises:
        UserError: The records measure different kinds of things.
    """
    check_kinds(before, after)
    return [
        _change(name, before["subjects"][name], figures, reference=name == after["reference"])
        for name, figures in after["subjects"].items()
        if name in before["subjects"]
    ]


def check_kinds(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Make sure that two records, or their settings alone, measure the same kind of thing.

    Raises:
        UserError: They do not.
    """
    kinds = before["settings"]["kind"], after["settings"]["kind"]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"The earlier result is of `bench {kinds[0]}`, this one of `bench {kinds[1]}`: give --against a file of the"
            " same kind."
        )


def different_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What else than the code differs between two records: "threads 2 -> 4", also processor and PyTorch's version."""
    pairs = [(key, before["settings"].get(key), after["settings"].get(key)) for key in _WHAT_DIFFERS]
    for key in ("processor", "device"):
        pairs.append((key, before["environment"].get(key), after["environment"].get(key)))
    pairs.append(("torch", *(record["environment"]["packages"].get("torch") for record in (before, after))))
    return [f"{key} {old} -> {new}" for key, old, new in pairs if old != new]


def _change(name: str, before: Mapping[str, Any], after: Mapping[str, Any], *, reference: bool) -> Change:
    old, new = Sample(tuple(before["ratios"])), Sample(tuple(after["ratios"]))
    return Change(
        subject=name,
        before=old.median,
        after=new.median,
        quotient=new.median / old.median,
        memory_before=before.get("memory", {}).get("host_above_build_mib"),
        memory_after=after.get("memory", {}).get("host_above_build_mib"),
        verdict="reference" if reference else _verdict(old, new),
    )


def _verdict(before: Sample, after: Sample) -> Verdict:
    if not (before.conclusive and after.conclusive):
        return "spread too wide"
    if after.notch[1] < before.notch[0]:
        return "faster"
    if after.notch[0] > before.notch[1]:
        return "slower"
    return "no difference"
