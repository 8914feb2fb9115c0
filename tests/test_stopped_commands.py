"""Commands that write are stopped at each of their writes: repeated, they leave what an uninterrupted one leaves.

By hand at every write of all commands, in the suite at one of the quickest:
`STOP_AT_EVERY=1 pytest tests/test_stopped_commands.py -n 0`.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crashes import KILLED, Ended, ForkedCommands, Stop, tree
from own_images import write_own_images
from PIL import Image
from safetensors.torch import load_file

from cascade_clip.export import exported_folder
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.shapes.prepare import prepare_shapes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # it starts a process that loads models
EVERY = int(os.environ.get("STOP_AT_EVERY", "0"))
MODEL = ("-m", "bundled", "--device", "cpu", "--quiet")
FOLDER = ("prepare-data", "folder", "--source", "mine", "--output", "out", "--workers", "1", "--quiet")
COMMANDS: dict[str, Sequence[str]] = {
    "prepare": FOLDER,
    "prepare anew": (*FOLDER, "--overwrite"),
    "import": (
        *("import-upstream", "released.pth", "--output", "out/model", "--quiet"),
        *("--vision-heads", "4", "--text-heads", "4", "--decoder-heads", "4"),
    ),
    "export": ("call", "test_stopped_commands:export", "out/exported"),
    "predict": ("predict", "photos", *MODEL, "-c", "red star,grass", "-o", "out", "--gallery"),
    "similarity": ("similarity", "photos/a.png", *MODEL, "-o", "out"),
    "cka": ("cka", "bundled", "--images", "photos", "--device", "cpu", "--quiet", "-o", "out", "--report", "out/page"),
    "eval": (
        *("eval", "bundled", "--data", "shapes", "--device", "cpu", "--quiet", "--output", "out"),
        *("--pictures", "out/pictures", "--report", "out/page", "--split", "shapes-seen"),
    ),
    "recipes": ("recipes", "coco/cascade-zegclip", "--copy-to", "out/mine.toml"),
}
QUICK = {"prepare anew"}
"""Stopped in the suite, too."""
SECONDS = re.compile(rb'"?[a-z_.]*seconds[a-z_.]*"?(: [^,\n}]+|</bdi></dt><dd><bdi>[^<]+)')


def export(folder: str) -> None:
    """An export without its tracing, which takes seconds."""
    exported_folder.trace = lambda network, joint, side: None
    exported_folder.WRITERS["pt2"] = lambda program, file, metadata: file.write_bytes(b"graph")
    exported_folder.READERS["pt2"] = lambda file, patch: None
    exported_folder.compare_with_torch = lambda *_: []
    exported_folder._card = lambda record: "card"
    exported_folder.export_model(CascadeCLIP.from_pretrained("bundled", device="cpu"), Path(folder), "pt2")


@pytest.fixture(scope="module")
def materials(golden: Path, tmp_path_factory) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("materials")
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (2, *size, 3), dtype=np.uint8) for size in ((8, 8), (40, 50)))
    write_own_images(folder / "mine", "ab", lambda number: (small[number], small[number, ..., 0] % 2), "sky\nsea\n")
    (folder / "photos").mkdir()
    for stem, pixels in zip("ab", large, strict=True):
        Image.fromarray(pixels).save(folder / "photos" / f"{stem}.png")
    if EVERY:
        tensors = load_file(golden / "cascade_zegclip_tiny" / "weights.safetensors")
        torch.save({"state_dict": tensors}, folder / "released.pth")
        prepare_shapes(folder / "shapes", train=1, val=2, workers=1)
    return folder


@pytest.fixture(scope="module")
def commands(materials: Path, tmp_path_factory) -> Iterator[ForkedCommands]:
    with ForkedCommands() as forked:
        folder = shutil.copytree(materials, tmp_path_factory.mktemp("warm") / "place")
        # Not what draws charts: their renderer does not survive a fork.
        if EVERY:
            forked.warm_up(("predict", "photos", *MODEL, "-c", "red star,grass", "-o", "out"), Path(folder))
        yield forked


class Stopped:
    """Runs one command whole, stopped, and again, each time in a new folder with the same materials."""

    def __init__(self, name: str, commands: ForkedCommands, materials: Path, place: Path) -> None:
        self.commands, self.command, self.place = commands, COMMANDS[name], place
        self.start = place / "start"
        shutil.copytree(materials, self.start)
        if name == "prepare anew":
            self._run(self.start, FOLDER)
            (self.start / "out" / "data" / "notes.txt").write_text("mine")
        self.folder = place / "place"
        self.anew()
        self.whole = self.run()
        assert self.whole.code == 0, self.whole.output
        self.expected = tree(self.folder, lasting)

    def anew(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.start, self.folder)

    def run(self, **limits: Any) -> Ended:
        return self._run(self.folder, self.command, **limits)

    def _run(self, folder: Path, command: Sequence[str], **limits: Any) -> Ended:
        return self.commands.run(command, watched=folder, **limits)


def lasting(name: str, content: bytes) -> bytes:
    """A file without the seconds that the work took."""
    return SECONDS.sub(b"", content) if name.endswith((".json", ".html")) else content


@pytest.fixture(scope="module", params=[name for name in COMMANDS if EVERY or name in QUICK])
def stopped(request, commands: ForkedCommands, materials: Path, tmp_path_factory) -> Stopped:
    return Stopped(request.param, commands, materials, tmp_path_factory.mktemp("stopped"))


def some(stops: Sequence[Stop]) -> Sequence[Stop]:
    """All stops, or some of them."""
    step = EVERY or len(stops)
    return stops[step // 2 :: step]


def test_killed_anywhere_the_same_command_completes_the_work(stopped: Stopped):
    for stop in some(stopped.whole.stops()):
        stopped.anew()
        where = f"{stop} of {stopped.whole.events[stop.event - 1]}"
        assert stopped.run(stop=stop).code == KILLED, where
        again = stopped.run()
        assert again.code == 0, (where, again.output)
        assert tree(stopped.folder, lasting) == stopped.expected, where


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(stopped: Stopped):
    limits: list[dict[str, Any]] = [{"stop": stop} for stop in some(stopped.whole.full_disks())]
    for limit in [*limits, *({"file_bytes": size} for size in ((0, 40, 700, 9000) if EVERY else ()))]:
        stopped.anew()
        full = stopped.run(**limit)
        if full.code == 0:  # no file is that large
            assert tree(stopped.folder, lasting) == stopped.expected
            continue
        assert full.code == 2, (limit, full.output)
        assert full.output.count("Error: ") == 1, (limit, full.output)
        assert "Traceback" not in full.output
        left = [name for name in tree(stopped.folder) if name.endswith((".part", ".tmp")) or ".writing" in name]
        assert left == [], limit
        again = stopped.run()
        assert again.code == 0, (limit, again.output)
        assert tree(stopped.folder, lasting) == stopped.expected, limit
