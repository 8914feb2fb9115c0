"""Checks of options that are made as they are read, before any work: paths that can be used, numbers that are finite.

`as_path` is the `parser` of options that are paths; the others are the `callback` of an option or argument, and begin
their message with its name.
"""

from __future__ import annotations

import json
import math
import mimetypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from cascade_clip.config import dataset_address
from cascade_clip.errors import UserError
from cascade_clip.files import check_folder, check_input_file, check_output_file, usable_path
from cascade_clip_cli.console import only_result

STDOUT = Path("-")
_ON_STDOUT, _INPUTS, _RESULTS = (f"cascade_clip_cli.{name}" for name in ("on_stdout", "inputs", "results"))
_JSON_OR_UNKNOWN = {None, "application/json", "text/plain"}
_RECORDS = {"config.json", "dataset.json", "environment.json", "export.json"}
"""What describes a checkpoint, dataset, run or exported model, which is no result."""


def as_path(text: str | Path) -> Path:
    """A path, which is not empty: `Path("")` would be the working folder."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty: give a path.")
    return Path(text)


def path_option(*names: str, check: Callable[..., Any], **more: Any) -> Any:
    """An option that is a path, which `check` is the callback of."""
    return typer.Option(*names, parser=as_path, callback=check, **more)


def output_folder(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """A folder that can be written to or made."""
    if value is None:
        return None
    check_folder(value, _name(param))
    return value.expanduser()


def output_file(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """A file that can be written."""
    if value is None:
        return None
    check_output_file(value, _name(param))
    return value.expanduser()


def result_file(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """A file that can be written for a result, or "-": stdout then takes this result alone.

    Only what may be an earlier result is replaced, and nothing that the command reads.
    """
    if value is None:
        return None
    if value != STDOUT:
        file = output_file(param, value)
        _keep_apart(ctx, _RESULTS, value)
        # Pictures, pages and tables are what the command itself may write there.
        if _name(param) == "--json" and mimetypes.guess_type(value.name)[0] not in _JSON_OR_UNKNOWN:
            raise UserError(f'--json "{value}" has the name of another kind of file: choose one that ends in .json.')
        if value.is_file() and not _may_be_result(value, as_json=_name(param) == "--json"):
            raise UserError(
                f'{_name(param)} "{value}" is there already and no result of cascade-clip: choose another file.'
            )
        return file
    if (other := ctx.meta.setdefault(_ON_STDOUT, _name(param))) != _name(param):
        raise UserError(f"{other} - and {_name(param)} - both go to stdout: write one of them to a file.")
    ctx.with_resource(only_result())
    return value


def _may_be_result(file: Path, *, as_json: bool) -> bool:
    content = file.expanduser().read_bytes()
    if not as_json or not content.strip():
        return content.lstrip().startswith((b"#", b"|")) or not content.strip()
    try:
        return isinstance(json.loads(content), dict) and file.name not in _RECORDS
    except (ValueError, RecursionError):
        return False


def _keep_apart(ctx: typer.Context, role: str, *files: str | Path) -> None:
    """Refuse a result that is also read; options come in any order."""
    ctx.meta.setdefault(role, []).extend(files)
    read = {os.path.realpath(Path(file).expanduser()) for file in ctx.meta.get(_INPUTS, [])}
    for file in ctx.meta.get(_RESULTS, []):
        if os.path.realpath(file.expanduser()) in read:
            raise UserError(f'"{file}" is read, and is no file to write the result to: choose another one.')


def input_file(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """A file that can be read."""
    if value is None:
        return None
    check_input_file(value, _name(param))
    _keep_apart(ctx, _INPUTS, value)
    return value.expanduser()


def place(
    ctx: typer.Context, param: typer.CallbackParam, value: str | Path | list[str] | None
) -> str | Path | list[str] | None:
    """What may be a path, a name or an address; a path need not exist."""
    for given in value if isinstance(value, list | tuple) else [value]:
        if given is not None and not dataset_address.is_address(given):
            usable_path(given, _name(param))
            _keep_apart(ctx, _INPUTS, given)
    return value


def finite(param: typer.CallbackParam, value: float | None) -> float | None:
    """A number that is neither infinite nor NaN."""
    if value is not None and not math.isfinite(value):
        raise UserError(f"{_name(param)} {value} is no finite number.")
    return value


def _name(param: typer.CallbackParam) -> str:
    """The option's long name, or how an argument is called in the help."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).upper().rstrip(".")
    return max(param.opts, key=len)
