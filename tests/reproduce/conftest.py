"""A table over the squares, planned and run in no time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from quick_runs import TABLE, CliCommands, QuickCommands, write_workplace

from cascade_clip.config.schema import Recipe
from cascade_clip.reproduce.plan import TablePlan, plan_tables
from cascade_clip.reproduce.table_file import read_table


@pytest.fixture
def workplace(tmp_path, tiny_recipe: Recipe) -> Path:
    """A folder with a recipe, a split and a table."""
    write_workplace(tmp_path, tiny_recipe)
    return tmp_path


@pytest.fixture
def make_plan(workplace: Path, squares: Path) -> Callable[..., TablePlan]:
    """Plan the table in `workplace`, or one with other text."""

    def make(text: str = TABLE, *, name: str = "mine", seeds: int = 2, overrides: Sequence[str] = ()) -> TablePlan:
        (workplace / f"{name}.toml").write_text(text)
        (plan,) = plan_tables(
            [read_table(str(workplace / f"{name}.toml"))],
            str(workplace / "no-blue.toml"),
            seeds=seeds,
            output=workplace / "out",
            data=str(squares),
            overrides=overrides,
        )
        return plan

    return make


@pytest.fixture
def commands() -> QuickCommands:
    """A fresh one."""
    return QuickCommands()


@pytest.fixture
def cli_commands() -> CliCommands:
    """A fresh one."""
    return CliCommands()
