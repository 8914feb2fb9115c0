"""Options in groups: a dataclass whose fields are options, which several commands take as one parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def with_groups(command: Callable[..., None], **groups: Any) -> Callable[..., None]:
    """Turn parameters that are dataclasses into one option a field, as which Typer reads them.

    Args:
        command: Takes options, and groups of them that are annotated as dataclasses.
        groups: Dataclasses in place of those that the command is annotated with.

    Returns:
        A command with the fields' annotations and defaults in place of each group.
    """
    kinds: dict[str, Any] = {
        name: kind for name, kind in (get_type_hints(command) | groups).items() if is_dataclass(kind)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = kinds.get(parameter.name)
        hints = get_type_hints(kind, include_extras=True) if kind else {}
        parameters += (
            [parameter.replace(name=one.name, default=one.default, annotation=hints[one.name]) for one in fields(kind)]
            if kind
            else [parameter]
        )

    def run(**given: Any) -> None:
        for name, kind in kinds.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
