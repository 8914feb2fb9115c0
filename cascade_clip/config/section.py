"""The base of everything that is read from a file."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """One topic of a recipe, class list or other file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def changed(self, **values: Any) -> Self:
        """A copy with other values, which are not validated; a dictionary changes values of a section.

        Raises AttributeError for a key that does not exist.
        """
        return self.model_copy(update={key: _changed(getattr(self, key), value) for key, value in values.items()})


def _changed(before: object, value: object) -> object:
    return before.changed(**value) if isinstance(before, Section) and isinstance(value, Mapping) else value


def _not_a_truth_value(given: object) -> object:
    if isinstance(given, bool):
        raise ValueError(f"a number is expected (got {given!r})")
    return given


Integer = Annotated[int, BeforeValidator(_not_a_truth_value)]
"""A whole number; true and false, which pydantic takes for 1 and 0, are none."""
Number = Annotated[float, BeforeValidator(_not_a_truth_value)]
"""A finite number; true and false are none."""
PositiveInt = Annotated[Integer, Field(ge=1, lt=2**31)]
Share = Annotated[Number, Field(ge=0, le=1)]
