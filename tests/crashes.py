"""Commands that end at a chosen write, as a kill ends them, or that find the disk full there.

A process of its own imports the command line once, and each command runs in a fork of it: a stop costs no more than
the command. The fork ends by `os._exit`, so nothing is cleaned up, as after `kill -9`. Events are counted by an audit
hook: files opened for writing, renames, deletions, folders made and removed, links. Writers that are not Python's own
(safetensors, Parquet, `torch.save`, PyAV) report to it through wrappers.

    with ForkedCommands() as commands:
        whole = commands.run(command, watched=folder)
        for stop in whole.stops():
            ...a new folder...
            commands.run(command, watched=folder, stop=stop)
            commands.run(command, watched=folder)
            assert tree(folder) == ...
"""

import errno
import hashlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

KILLED = 137
"""Exit code of a command that was stopped."""
SECONDS = 120
_CUT = b'{"cut'
_OPENED, _MADE = "open", "os.mkdir"
_EVENTS = {_OPENED, _MADE, "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_NATIVE_WRITERS = (
    ("safetensors.torch", "serialize_file", 1),
    ("pyarrow.parquet", "ParquetWriter", 0),
    ("torch._C", "PyTorchFileWriter", 0),
    ("av", "open", 0),
)
"""Module, name, and position of the path among the arguments."""


@dataclass(frozen=True)
class Stop:
    """Where a command ends.

    Attributes:
        event: Number of the event, from 1.
        how: "before": killed right before it; "cut": killed when a file has its first few bytes; "full": from this
            event on no file can be opened for writing and no folder made (ENOSPC).
    """

    event: int
    how: str = "before"


@dataclass(frozen=True)
class Ended:
    """What a command left.

    Attributes:
        code: Exit code; `KILLED` where it was stopped.
        output: What it printed, stdout and stderr together.
        events: Each event in order: its name, then its paths relative to the watched folder.
    """

    code: int
    output: str
    events: tuple[str, ...]

    def stops(self) -> list[Stop]:
        """All places where the same command can be killed."""
        found = []
        for number, event in enumerate(self.events, start=1):
            found.append(Stop(number))
            if event.startswith(f"{_OPENED} "):
                found.append(Stop(number, "cut"))
        return found

    def full_disks(self) -> list[Stop]:
        """All places where the same command can find the disk full."""
        needing = (f"{_OPENED} ", f"{_MADE} ")
        return [Stop(number, "full") for number, event in enumerate(self.events, start=1) if event.startswith(needing)]


class ForkedCommands:
    """Runs commands of `cascade-clip` in forks of one process that has imported them."""

    def __enter__(self) -> Self:
        paths = [str(Path(__file__).parent), *sys.path]
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=SECONDS)

    def warm_up(self, arguments: Sequence[object], folder: Path) -> None:
        """Run a command in the process itself, in a folder: forks find loaded what it loads on first use.

        Not for commands that train: PyTorch's backward pass works only in one of a process and its fork.
        """
        request = {"arguments": [str(word) for word in arguments], "watched": str(folder), "warm_up": True}
        answer = self._ask(request | {"environment": dict(os.environ)})
        assert answer["code"] == 0, answer

    def run(
        self, arguments: Sequence[object], *, watched: Path, stop: Stop | None = None, file_bytes: int | None = None
    ) -> Ended:
        """Run a command.

        Args:
            arguments: Words of the command line without the program's name; `["call", "module:function", ...]` calls
                a function with strings instead.
            watched: Only events in this folder count; it also is the working folder.
            stop: Where the command ends; None: by itself.
            file_bytes: No file can grow beyond it (EFBIG, from the middle of a write). None: no limit.
        """
        request = {
            "arguments": [str(word) for word in arguments],
            "watched": os.path.realpath(watched),
            "stop": [stop.event, stop.how] if stop is not None else None,
            "file_bytes": file_bytes,
            "environment": dict(os.environ),
        }
        answer = self._ask(request)
        return Ended(answer["code"], answer["output"], tuple(answer["events"]))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def tree(folder: Path, content: Callable[[str, bytes], bytes] = lambda _name, content: content) -> dict[str, str]:
    """What is in a folder: SHA-256 of each file, "folder" or the target of a link, by relative path.

    Args:
        folder: Where to look; hidden entries count.
        content: Takes from a file's bytes, given its relative path, what differs from run to run (times, for one).
    """
    return dict(sorted(_entries(folder, folder, content)))


def _entries(top: Path, folder: Path, content: Callable[[str, bytes], bytes]) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        name = entry.relative_to(top).as_posix()
        if entry.is_symlink():
            yield name, f"link to {entry.readlink()}"
        elif entry.is_dir():
            yield name, "folder"
            yield from _entries(top, entry, content)
        else:
            yield name, hashlib.sha256(content(name, entry.read_bytes())).hexdigest()


def _serve() -> None:
    """Run each command that comes in as a line of JSON in a fork, and answer what it left."""
    for line in sys.stdin:
        request = json.loads(line)
        _import(*request["arguments"][:2])
        if "warm_up" in request:
            print(json.dumps({"code": _warm_up(request)}), flush=True)  # noqa: T201
            continue
        # Pipes, as files would not grow beyond a limit either.
        (output, output_end), (events, events_end) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            _run(request, output_end, events_end)
        os.close(output_end)
        os.close(events_end)
        printed, log = _read_all(output, events)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "output": printed, "events": log.splitlines()}), flush=True)  # noqa: T201


def _warm_up(request: dict[str, Any]) -> int:
    """Run a command in this process, whose stdout is for answers."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    os.chdir(request["watched"])
    os.environ.update(request["environment"])
    try:
        _call(request["arguments"])
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
    return 0


def _read_all(*pipes: int) -> list[str]:
    """Read pipes until all are closed."""
    content = dict.fromkeys(pipes, b"")
    waiting = set(pipes)
    while waiting:
        for pipe in select.select(waiting, (), ())[0]:
            piece = os.read(pipe, 1 << 16)
            content[pipe] += piece
            if not piece:
                waiting.remove(pipe)
                os.close(pipe)
    return [content[pipe].decode(errors="replace") for pipe in pipes]


def _import(command: str, function: str = "") -> None:
    """Import before the fork what the command imports, so that it is done once."""
    from cascade_clip_cli.main import COMMANDS, load_command

    if command in COMMANDS:
        load_command(command)
    elif command == "call":
        importlib.import_module(function.partition(":")[0])
    for module, _, _ in _NATIVE_WRITERS[:3]:
        importlib.import_module(module)


def _run(request: dict[str, Any], output: int, events: int) -> None:
    """Run a command in this process, a fork, and end it."""
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.alarm(SECONDS)
        os.chdir(request["watched"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if request["file_bytes"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], resource.RLIM_INFINITY))
        _watch(request["watched"], request["stop"], events)
        _call(request["arguments"])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(arguments: list[str]) -> None:
    from cascade_clip.errors import UserError
    from cascade_clip_cli.main import main

    if arguments[0] == "call":
        module, _, name = arguments[1].partition(":")
        try:
            getattr(importlib.import_module(module), name)(*arguments[2:])
        except UserError as error:
            print(f"Error: {error}")  # noqa: T201
            sys.exit(2)
        return
    sys.argv = ["cascade-clip", *arguments]
    main(arguments)


def _watch(watched: str, stop: tuple[int, str] | None, log: int) -> None:
    """Count events below a folder, and end or fail at the one that is asked for."""
    count, at, how = 0, *(stop or (0, ""))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _EVENTS or (event == _OPENED and not _for_writing(arguments)):
            return
        paths = [os.path.relpath(path, watched) for path in _paths(event, arguments)]
        if not paths or any(path.startswith("..") for path in paths) or _without_effect(event, watched, paths[0]):
            return
        count += 1
        os.write(log, (" ".join([event, *paths]) + "\n").encode(errors="surrogateescape"))
        if how == "full" and count >= at and event in {_OPENED, _MADE}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), paths[0])
        if count == at and how != "full":
            if how == "cut":
                _cut(Path(watched, paths[0]), arguments)
            os._exit(KILLED)

    _report_native_writers()
    sys.addaudithook(hook)


def _without_effect(event: str, watched: str, path: str) -> bool:
    """Whether a folder is made that exists, or something deleted that does not, as `exist_ok` and the like do."""
    exists = os.path.lexists(Path(watched, path))
    return exists if event == _MADE else not exists and event in {"os.remove", "os.rmdir", "os.rename"}


def _for_writing(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    if isinstance(path, int):
        return False
    return bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool(flags & (os.O_WRONLY | os.O_RDWR))


def _paths(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """The paths of an event from the root; those of `shutil.rmtree` are relative to an open folder."""
    given = {_OPENED: (0,), _MADE: (0,), "os.truncate": (0,), "os.remove": (0,), "os.rmdir": (0,)}.get(event, (0, 1))
    folder = {"os.remove": 1, "os.rmdir": 1, _MADE: 2}.get(event)
    below = arguments[folder] if folder is not None else -1
    start = Path(f"/proc/self/fd/{below}").readlink() if isinstance(below, int) and below >= 0 else Path.cwd()
    names = [os.fsdecode(arguments[index]) for index in given if not isinstance(arguments[index], int)]
    return [str(start / name) for name in names]


def _cut(path: Path, arguments: tuple[Any, ...]) -> None:
    """Leave what a write leaves that was killed in its middle."""
    if path.is_dir():  # a file without a name in it
        return
    _, mode, flags = arguments
    appends = "a" in mode if isinstance(mode, str) else flags & os.O_APPEND
    keeps = "+" in mode and "w" not in mode if isinstance(mode, str) else not flags & (os.O_TRUNC | os.O_EXCL)
    if keeps and not appends:
        return
    file = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if appends else os.O_TRUNC), 0o644)
    os.write(file, _CUT)


def _report_native_writers() -> None:
    for module_name, name, position in _NATIVE_WRITERS:
        if module_name in sys.modules:
            module = sys.modules[module_name]
            setattr(module, name, _reporting(getattr(module, name), position))


def _reporting(write: Callable[..., Any], position: int) -> Callable[..., Any]:
    """The function, reporting the file first where it is given by path and not opened for reading."""

    def reported(*arguments: Any, **options: Any) -> Any:
        path = arguments[position] if len(arguments) > position else options.get("filename")
        mode = next((word for word in (*arguments[position + 1 :], options.get("mode")) if word in {"r", "w"}), "w")
        if isinstance(path, str | os.PathLike) and mode == "w":
            sys.audit(_OPENED, os.fspath(path), "wb", 0)
        return write(*arguments, **options)

    return reported


if __name__ == "__main__":
    _serve()
