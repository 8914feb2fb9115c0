"""Two records side by side, with a verdict that respects their spread."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cascade_clip.bench.timing import LARGEST_SPREAD, notch, spread
from cascade_clip.errors import UserError

Verdict = Literal["faster", "slower", "no difference", "spread too wide", "reference"]
_SETTINGS = ("checkpoint", "architecture", "recipe", "overrides", "classes", "size", "batch", "precision", "threads")
"""Settings whose difference is told."""


class Change(NamedTuple):
    """One subject then and now.

    Attributes:
        subject: Its name.
        before: Its median ratio to the reference in the earlier record.
        after: The same now; less than `before` is faster, whatever the machine did in the meantime.
        memory: Peak of its process above the built model in MiB, then and now; None: not measured.
        verdict: What can be concluded.
    """

    subject: str
    before: float
    after: float
    memory: tuple[float | None, float | None]
    verdict: Verdict


def read_record(path: Path) -> dict[str, Any]:
    """Read a record that `bench --json` wrote; raises UserError where the file cannot be read or is none."""
    try:
        record: dict[str, Any] = json.loads(path.expanduser().read_text(encoding="utf-8"))
        if {"settings", "subjects", "reference"} <= record.keys():
            return record
    except OSError as error:
        raise UserError(f'The earlier result "{path}" cannot be read: {error.strerror or error}.') from error
    except (ValueError, AttributeError) as error:
        raise UserError(f'"{path}" is no result of `cascade-clip bench`: {error}.') from error
    raise UserError(f'"{path}" is no result of `cascade-clip bench`: give a file that its --json wrote.')


def check_kinds(before: Mapping[str, Any], kind: str) -> None:
    """Raise UserError where an earlier record measured another kind of thing than is measured now."""
    earlier = before["settings"]["kind"]
    if earlier != kind:
        raise UserError(
            f"The earlier result is of `bench {earlier}`, this one of `bench {kind}`: give --against a file of the same"
            " kind."
        )


def changes_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare the subjects that both records hold, in the order of the later one.

    Ratios to the reference of the same run are compared, not seconds: they are what two runs have in common. Two
    medians count as different where their notches do not overlap, and not at all where either spreads too much.
    """
    changes = []
    for name, now in after["subjects"].items():
        if name not in before["subjects"]:
            continue
        then = before["subjects"][name]
        old, new = then["ratios"], now["ratios"]
        memory = [figures.get("memory", {}).get("host_above_build_mib") for figures in (then, now)]
        verdict: Verdict = "reference" if name == after["reference"] else _verdict(old, new)
        changes.append(Change(name, float(np.median(old)), float(np.median(new)), (memory[0], memory[1]), verdict))
    return changes


def different_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What else than the code differs between two records: "threads 2 -> 4", also processor and PyTorch's version."""
    pairs = [(key, before["settings"].get(key), after["settings"].get(key)) for key in _SETTINGS]
    for key in ("processor", "device"):
        pairs.append((key, before["environment"].get(key), after["environment"].get(key)))
    pairs.append(("torch", *(record["environment"]["packages"].get("torch") for record in (before, after))))
    return [f"{key} {old} -> {new}" for key, old, new in pairs if old != new]


def _verdict(before: Sequence[float], after: Sequence[float]) -> Verdict:
    if max(spread(before), spread(after)) > LARGEST_SPREAD:
        return "spread too wide"
    if notch(after)[1] < notch(before)[0]:
        return "faster"
    return "slower" if notch(after)[0] > notch(before)[1] else "no difference"
