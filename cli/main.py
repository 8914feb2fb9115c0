"""The command `cascade-clip`: registers the commands and turns errors into one clear sentence and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cascade_clip.errors import UserError
from cascade_clip_cli.bench import bench
from cascade_clip_cli.cka import cka
from cascade_clip_cli.evaluate import evaluate
from cascade_clip_cli.export import export
from cascade_clip_cli.import_upstream import import_upstream
from cascade_clip_cli.predict import predict
from cascade_clip_cli.prepare_data import app as prepare_data
from cascade_clip_cli.quickstart import quickstart
from cascade_clip_cli.recipes import recipes
from cascade_clip_cli.reproduce import reproduce
from cascade_clip_cli.self_train import self_train
from cascade_clip_cli.similarity import similarity
from cascade_clip_cli.train import train

USER_MISTAKE = 2
INTERRUPTED = 130
_USERS_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

app = typer.Typer(
    name="cascade-clip",
    help="Segment any image into classes named in words, including classes never labelled in training (Cascade-CLIP).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("quickstart")(quickstart)
app.add_typer(prepare_data, name="prepare-data")
app.command("train")(train)
app.command("self-train")(self_train)
app.command("eval")(evaluate)
app.command("predict")(predict)
app.command("cka")(cka)
app.command("similarity")(similarity)
app.command("bench")(bench)
app.command("export")(export)
app.command("import-upstream")(import_upstream)
app.command("reproduce")(reproduce)
app.command("recipes")(recipes)


def _version(wanted: bool) -> None:
    if wanted:
        from cascade_clip import __version__

        typer.echo(f"cascade-clip {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program as a whole."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the user's mistake, 1 a defect of ours, 130 interrupted."""
    try:
        app(None if arguments is None else list(arguments))
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in _USERS_DISK:
            raise
        place = error.filename or "the output"
        _fail(f'Cannot write "{place}": {error.strerror}. Free some space or choose another --output.')
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        _fail(
            "The device's memory is full: use fewer images at once (--set train.micro_batch=1 or"
            " --set inference.window_batch=1) or --precision bf16."
        )


def _fail(message: str) -> None:
    from cascade_clip_cli.console import stderr

    stderr.quiet = False
    stderr.print(f"[bold red]Error:[/] {_escaped(message)}", soft_wrap=True, highlight=False)
    sys.exit(USER_MISTAKE)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
