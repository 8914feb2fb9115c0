"""The command `cascade-clip`: a table of commands, and errors turned into one clear sentence and an exit code."""

from __future__ import annotations

import atexit
import errno
import gc
import inspect
import re
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from itertools import zip_longest
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from cascade_clip import __version__
from cascade_clip.errors import UserError, readable, shortened
from cascade_clip_cli.console import discard, prepare_streams, stderr, stdout
from cascade_clip_cli.launch import (
    Terminated,
    is_child,
    leave_process_group,
    raise_terminated,
    report_to_parent,
    wait_to_be_ended,
)
from cascade_clip_cli.options import with_groups

USER_MISTAKE = 2
INTERRUPTED = 130
TERMINATED = 143
LONGEST_USAGE_ERROR = 240
"""Characters of a message about a word of the command line."""
_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Typer names it in different places from version to version."""
_WAYS_OUT = {
    (errno.ENOSPC, errno.EDQUOT): "Free some space, or choose another place to write to.",
    (errno.EFBIG,): "Choose another place to write to: this one takes no file of that size.",
    (errno.EROFS,): "Choose another place to write to: this one is read-only.",
    (errno.EACCES, errno.EPERM): "You may not read or write there: change its permissions, or choose another place.",
    (errno.EIO, errno.ESTALE): "The disk or the connection to it fails: repeat the command.",
    (errno.EMFILE,): "Too many files are open at once: raise the limit with `ulimit -n`.",
    (errno.ENFILE,): "Too many files are open at once on this machine: end other programs.",
    (errno.ENOMEM,): "The memory is full: end other programs, or use fewer processes.",
}
"""What the user can do where the system refuses during the work; before it, options are checked one by one."""
COMMANDS = {
    "quickstart": (
        "Draw scenes, train ZegCLIP and Cascade-CLIP on the seen classes, compare their scores and show predictions."
    ),
    "predict": "Segment images into the classes you name and write label map, overlay and JSON of each.",
    "prepare-data": (
        "Turn official files, images and masks of your own, or a dataset of the Hub, into a prepared dataset."
    ),
    "train": "Train on the seen classes of a split (on all classes where it has no unseen ones).",
    "self-train": "Continue training with pseudo labels for the unseen classes, of which only the names are known.",
    "eval": "Measure seen and unseen mIoU, hIoU and pixel accuracy of a checkpoint on a validation set.",
    "reproduce": (
        "Train and score every row of a table, and show mean and deviation over seeds beside the paper's figures."
    ),
    "cka": "Compare all layers of a model by linear CKA (the paper's Figure 4) and write a heat map, CSV and JSON.",
    "similarity": (
        "Show how similar all patches are to the patch at a point, after each block of CLIP and of trained models."
    ),
    "demo": "Open a page where you drop photographs and type words; programs can use it over HTTP.",
    "bench": "Measure prediction, evaluation, training or preparation beside the bare CLIP tower.",
    "export": "Write a model as one file that takes images and text embeddings, any number of either.",
    "import-upstream": "Turn a released checkpoint (mmcv pickle) into a checkpoint folder, every tensor accounted for.",
    "recipes": "List the shipped recipes with the paper's figures, or show one of them.",
}
"""The sentence about each command in their list: the first line of its docstring. The command is the function called as
its module in `cascade_clip_cli`, or, with sub-commands, the module's `app`."""


class _Commands(TyperGroup):
    """Lists commands from the table and imports only the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=sentence) for name, sentence in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load_command(str(listed.name)), with_background(rest)

    def invoke(self, ctx: Any) -> Any:
        """Typer would end an interrupted command without a word, and repeat a wrong value whole however long it is."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            _end_interrupted(interrupt)
        except _USAGE_ERROR as error:
            error.message = shortened(readable(error.message), LONGEST_USAGE_ERROR) + _hint_at_option(error)
            raise


def _hint_at_option(error: Any) -> str:
    """Name the option that takes what was given without one, as in `prepare-data folder DIR`."""
    if "unexpected extra argument" not in error.message or error.ctx is None:
        return ""
    options = {option for parameter in error.ctx.command.params for option in parameter.opts}
    return next((f". Did you mean {option}?" for option in ("--source", "--data") if option in options), "")


def with_background(arguments: Sequence[str]) -> list[str]:
    """Give a `--background` that ends the line or stands before another option the value `default`.

    Typer knows no options that may stand without a value.
    """
    completed: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue="-"):
        completed.append(argument)
        if argument == "--background" and following.startswith("-"):
            completed.append("default")
    return completed


def load_command(name: str) -> Any:
    """Import a command of the table by its name: the object that Typer made of its function, or app."""
    module = "evaluate" if name == "eval" else name.replace("-", "_")
    found = import_module(f"cascade_clip_cli.{module}")
    target = getattr(found, "app", None) or getattr(found, module)
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        # Typer keeps line breaks within a paragraph, which fall anywhere on a terminal of another width.
        single.command(name, help=re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(target) or ""))(with_groups(target))
        command = typer.main.get_command(single)
    command.name = name
    return command


def _version(wanted: bool) -> None:
    if wanted:
        stdout.print(f"cascade-clip {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="cascade-clip",
    cls=_Commands,
    help="Segment any image into classes named in words, including classes never labelled in training (Cascade-CLIP).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program as a whole."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0 done, 2 the user's mistake, 1 a defect of ours, 130 interrupted by Ctrl-C, 143 by SIGTERM.
    """
    # Looking for garbage among all modules would make every command half a second longer at its end.
    atexit.register(gc.freeze)
    _handle_signals()
    prepare_streams()
    try:
        app(None if arguments is None else list(arguments))
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        way_out = next((way for numbers, way in _WAYS_OUT.items() if error.errno in numbers), None)
        if way_out is None:
            raise
        if error.filename is None:
            discard(sys.stdout)
        place = "The output cannot be written" if error.filename is None else f'"{error.filename}"'
        _fail(f"{place}: {error.strerror}. {way_out}")
    except KeyboardInterrupt as interrupt:
        _end_interrupted(interrupt)
    except MemoryError:
        _fail("The memory is full: use smaller images or crops, fewer images at once, or fewer processes.")
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" and "allocate memory" not in str(error):
            wait_to_be_ended()
            raise
        _fail(
            "The device's memory is full: use fewer images at once (--set train.micro_batch=1 or"
            " --set inference.window_batch=1) or --precision bf16."
        )
    finally:
        leave_process_group()


def _handle_signals() -> None:
    """Let SIGTERM, by which schedulers end a job, leave what Ctrl-C leaves.

    A process that `run_processes` started ends at once by either: what it waits for in a collective may never come, and
    its parent says why. `run_training.train` keeps both until a step's end.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if is_child():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        return
    signal.signal(signal.SIGTERM, raise_terminated)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_interrupted(interrupt: KeyboardInterrupt) -> NoReturn:
    stderr.insist(str(interrupt) or "Interrupted.")
    sys.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)


def _fail(message: str) -> NoReturn:
    if not report_to_parent(message):
        stderr.insist(Text("Error:", style="bold red"), message)
    sys.exit(USER_MISTAKE)
