"""Imports run one way: every room of the house imports from the rooms below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import cascade_clip

PACKAGE = Path(cascade_clip.__file__).parent
COMMAND_LINE = PACKAGE.parent / "cli"
FLOORS = (
    {"errors", "labels", "progress"},
    {"files", "extensions", "reachability"},
    {"runtime", "config", "output_folder"},
    {"compilation", "faster_linear"},
    {"data", "losses", "model"},
    {"drawing"},
    {"checkpoint", "preparation"},
    {"inference"},
    {"segmenter"},
    {"evaluation"},
    {"analysis"},
    {"report"},
    {"training"},
    {"shapes"},
    {"export", "bench", "reproduce", "demo"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(source: str) -> Iterator[str]:
    """Rooms of `cascade_clip` that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "cascade_clip":
            yield from (name.name for name in node.names if name.name in FLOOR)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cascade_clip."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("cascade_clip."))


def test_imports_run_one_way():
    upward = []
    for folder, file in [(PACKAGE, f) for f in PACKAGE.rglob("*.py")] + [
        (COMMAND_LINE, f) for f in COMMAND_LINE.glob("*.py")
    ]:
        room = "cli" if folder == COMMAND_LINE else file.relative_to(folder).parts[0].removesuffix(".py")
        if room == "__init__":  # the public names, each imported on first use
            continue
        for other in imported_rooms(file.read_text("utf-8")):
            if other != room and FLOOR[other] >= FLOOR[room]:
                upward.append(f"{file.relative_to(folder.parent)} imports {other}")
    assert upward == []
