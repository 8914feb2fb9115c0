"""The base of everything that is read from a file."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """One topic of a recipe, class list or other file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def _not_a_truth_value(given: object) -> object:
    if isinstance(given, bool):
        raise ValueError(f"a number is expected (got {given!r})")
    return given


Integer = Annotated[int, BeforeValidator(_not_a_truth_value)]
"""A whole number; true and false, which pydantic takes for 1 and 0, are none."""
Number = Annotated[float, BeforeValidator(_not_a_truth_value)]
"""A finite number; true and false are none."""
