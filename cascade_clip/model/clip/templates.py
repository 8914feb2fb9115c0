"""Sentences that class names are put into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cascade_clip.errors import UserError, closest

SINGLE = ("a photo of a {}",)
"""One sentence, without a full stop, as released for VOC (SPEC section 2)."""

MULTI = (
    "a photo of a {}.",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "a {} in the scene.",
    "a photo of a {} in the scene.",
    "There is a {} in the scene.",
    "There is the {} in the scene.",
    "This is a {} in the scene.",
    "This is the {} in the scene.",
    "This is one {} in the scene.",
)
"""The 15 sentences released for COCO-Stuff and PASCAL Context (SPEC section 2)."""


def _imagenet() -> tuple[str, ...]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


TEMPLATE_SETS: dict[str, Callable[[], tuple[str, ...]]] = {
    "single": lambda: SINGLE,
    "multi": lambda: MULTI,
    "imagenet": _imagenet,
}


def templates_of(name_or_file: str) -> tuple[str, ...]:
    """Look up a set of sentences, each with one {} where the class name goes.

    Args:
        name_or_file: `single`, `multi`, `imagenet` (open_clip's 80), or a text file with a sentence a line.

    Raises:
        UserError: No such set or file, or a line without exactly one {}.
    """
    if name_or_file in TEMPLATE_SETS:
        return TEMPLATE_SETS[name_or_file]()
    file = Path(name_or_file).expanduser()
    if not file.is_file():
        raise UserError(
            f'"{name_or_file}" is neither a set of text templates nor a file.{closest(name_or_file, TEMPLATE_SETS)}'
        )
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if line.count("{}") != 1:
            raise UserError(f'Line {number} of the template file "{file}" needs exactly one {{}}: "{line}".')
    if not lines:
        raise UserError(f'The template file "{file}" is empty: a sentence with {{}} a line is expected.')
    return tuple(lines)
