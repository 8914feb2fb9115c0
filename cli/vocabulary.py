"""The classes that a command looks for, as the user named them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cascade_clip import segmenter
from cascade_clip.config import class_names
from cascade_clip.data import catalogue
from cascade_clip.errors import UserError
from cascade_clip.inference import predictor
from cascade_clip.model.clip import text
from cascade_clip.report import palette


class ClassChoice(NamedTuple):
    """Either names or a split."""

    names: tuple[str, ...] | None
    split: catalogue.Split | None

    def spoken_names(self) -> tuple[str, ...]:
        """The K names as results show them: of synonyms the first."""
        if self.split is not None:
            return self.split.class_names
        return tuple(name.split("|")[0].strip() for name in self.names or ())

    def embedded(self, model: segmenter.CascadeCLIP) -> predictor.Vocabulary:
        """What the model looks for.

        Raises:
            UserError: Names that the model's text tower cannot embed.
        """
        return model.vocabulary(self.names, split=self.split)

    def known_colours(self) -> dict[str, palette.Colour]:
        """Colours that a split gives its classes, by name."""
        return {} if self.split is None else {entry.name: entry.colour for entry in self.split.classes}


def chosen_classes(classes: str | None, classes_file: Path | None, split: str | None) -> ClassChoice | None:
    """Read and check the classes before anything slow is loaded.

    Returns:
        The class names as given or the split; None where the user named neither.

    Raises:
        UserError: Several sources at once, an empty or repeated name, an unknown split.
    """
    given = {"--classes": classes, "--classes-file": classes_file, "--split": split}
    used = [option for option, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"Give only one of {' and '.join(used)}: each names the classes to look for.")
    if split is not None:
        return ClassChoice(None, catalogue.get_split(split))
    if classes_file is not None:
        names = class_names.read_class_names(classes_file)
    elif classes is not None:
        names = [name.strip() for name in classes.split(",")]
    else:
        return None
    text.class_synonyms(names)
    return ClassChoice(tuple(names), None)


def own_classes(model: segmenter.CascadeCLIP) -> ClassChoice:
    """The classes that the model was trained on.

    Raises:
        UserError: It does not say which.
    """
    if model.split is None:
        raise UserError("Say what to look for: --classes road,tree,sky or --classes-file FILE or --split NAME.")
    return ClassChoice(None, model.split)
