"""The README's commands do what it says: those that need no network and no hours are run, all are parsed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from own_images import write_own_images
from PIL import Image

from cascade_clip.config.recipes import load_recipe
from cascade_clip_cli.main import COMMANDS, load_command, main

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
EXAMPLES = [shlex.split(text.replace(r"\|", "|")) for text in re.findall(r"`cascade-clip ([^`]+)`", README)]
NAMES = ("road", "tvmonitor", "tree")
RUN = {
    "prepare-data folder": [],
    "train --data": ["tiny"],
    "train --split": ["tiny", "--output", "runs/split"],
    "predict street.jpg": ["--model", "dense:bundled"],
    "similarity": [],
    "cka": [],
    "recipes voc/zegclip": [],
}
"""Beginnings of the examples that are run, in this order, and what a test adds to each; "tiny": a CLIP of seconds."""


@pytest.mark.parametrize("example", EXAMPLES, ids=" ".join)
def test_every_example_is_a_command_with_options_that_it_has(example: list[str], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("street.jpg", "coco.pth", "my-split.toml"):
        (tmp_path / name).write_bytes(b"x")
    name, *arguments = example
    command = load_command(name)
    context = command.make_context(name, list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        context = command.make_context(name, list(arguments))
    if "--recipe" in arguments:
        load_recipe(arguments[arguments.index("--recipe") + 1])


def test_every_command_has_an_example():
    assert {example[0] for example in EXAMPLES} == set(COMMANDS)


@pytest.mark.slow  # it trains
def test_the_examples_in_the_order_of_a_first_day(tmp_path, monkeypatch, tiny_settings: list[str]):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    pixels, mask = random.integers(0, 256, (64, 64, 3), np.uint8), random.integers(0, len(NAMES), (64, 64), np.uint8)
    write_own_images(Path("my-data"), "012345", lambda _: (pixels, mask), "\n".join(NAMES), "jpg")
    Image.fromarray(pixels).save("street.jpg")
    Path("my-split.toml").write_text(_block("toml"))
    for beginning, more in RUN.items():
        example = next(e for e in EXAMPLES if " ".join(e).startswith(beginning))
        added = [part for key in tiny_settings for part in ("--set", key)] + more[1:] if more[:1] == ["tiny"] else more
        with pytest.raises(SystemExit) as left:
            main([*example, *added])
        assert not left.value.code, beginning
    exec(_block("python"), {})


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"the README shows no {language}"
    return found[1]
