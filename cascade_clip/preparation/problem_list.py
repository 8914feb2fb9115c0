"""One error of many sentences."""

from __future__ import annotations

from collections.abc import Sequence

from cascade_clip.errors import UserError

_SHOWN = 10


def problem_list(problems: Sequence[str]) -> UserError:
    """Make one error of everything that is wrong with a source: the count, the first ten, and that nothing was written.

    Args:
        problems: Whole sentences, at least one.

    Returns:
        The error, to be raised.
    """
    count = "One problem was" if len(problems) == 1 else f"{len(problems)} problems were"
    lines = [f"{count} found; nothing was written:", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} more.")
    return UserError("\n".join(lines))
