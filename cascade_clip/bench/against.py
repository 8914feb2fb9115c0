"""Two records side by side, with a verdict that respects their spread."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from cascade_clip.bench.record import LARGEST_SPREAD, spread
from cascade_clip.errors import UserError, reason_of

Verdict = Literal["faster", "slower", "no difference", "spread too wide", "reference"]
_SETTINGS = ("checkpoint", "architecture", "recipe", "overrides", "classes", "size", "batch", "precision", "threads")
"""Settings whose difference is told."""


class Change(NamedTuple):
    """One subject then and now: its median ratios to the reference, where less is faster whatever the machine did.

    `memory` is the peak of its process above the built model in MiB, then and now; None: not measured.
    """

    subject: str
    before: float
    after: float
    memory: tuple[float | None, float | None]
    verdict: Verdict


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """Read a record that `bench KIND --json` wrote; raises UserError for a file that is none, or of another kind."""
    try:
        record: dict[str, Any] = json.loads(path.expanduser().read_text(encoding="utf-8"))
        earlier = record["settings"]["kind"]
        complete = {"subjects", "reference"} <= record.keys()
    except OSError as error:
        raise UserError(f'The earlier result "{path}" cannot be read: {reason_of(error)}.') from error
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise UserError(f'"{path}" is no result of `cascade-clip bench`: give a file that its --json wrote.')
    if earlier != kind:
        raise UserError(
            f"The earlier result is of `bench {earlier}`, this one of `bench {kind}`: give --against a file of the same"
            " kind."
        )
    return record


def changes_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare the subjects that both records hold, in the order of the later one.

    Ratios to the reference of the same run are compared, not seconds: they are what two runs have in common. Two
    medians count as different where their notches do not overlap, and not at all where either spreads too much.
    """
    changes = []
    for name, now in after["subjects"].items():
        if (then := before["subjects"].get(name)) is None:
            continue
        old, new = then["ratios"], now["ratios"]
        memory = [figures.get("memory", {}).get("host_above_build_mib") for figures in (then, now)]
        verdict: Verdict = "reference" if name == after["reference"] else _verdict(old, new)
        changes.append(Change(name, median(old), median(new), (memory[0], memory[1]), verdict))
    return changes


def different_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What else than the code differs between two records: "threads 2 -> 4", also processor and PyTorch's version."""
    pairs = [(key, before["settings"].get(key), after["settings"].get(key)) for key in _SETTINGS]
    old, new = before["environment"], after["environment"]
    pairs += [(key, old.get(key), new.get(key)) for key in ("processor", "device")]
    pairs.append(("torch", old["packages"].get("torch"), new["packages"].get("torch")))
    return [f"{key} {then} -> {now}" for key, then, now in pairs if then != now]


def notch(values: Sequence[float]) -> tuple[float, float]:
    """Interval of the median at about 95 % confidence (McGill, Tukey and Larsen 1978): medians differ where their
    notches do not overlap."""
    middle = median(values)
    half = 1.57 * spread(values) * middle / math.sqrt(len(values))
    return middle - half, middle + half


def _verdict(before: Sequence[float], after: Sequence[float]) -> Verdict:
    if max(spread(before), spread(after)) > LARGEST_SPREAD:
        return "spread too wide"
    if notch(after)[1] < notch(before)[0]:
        return "faster"
    return "slower" if notch(after)[0] > notch(before)[1] else "no difference"
