"""The classes that a command looks for, as the user named them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cascade_clip import segmenter
from cascade_clip.config import class_names
from cascade_clip.data import catalogue
from cascade_clip.errors import UserError
from cascade_clip.inference import query_vocabulary
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.model import dense
from cascade_clip.model.clip import text


class ClassChoice(NamedTuple):
    """Either names or a split."""

    names: tuple[str, ...] | None
    split: catalogue.Split | None

    def spoken_names(self) -> tuple[str, ...]:
        """The K names as results show them: of synonyms the first."""
        if self.split is not None:
            return self.split.class_names
        return tuple(name.split("|")[0].strip() for name in self.names or ())

    def embedded(
        self, model: segmenter.CascadeCLIP, background: tuple[str, ...] | bool | None = None
    ) -> vocabularies.Vocabulary:
        """What the model looks for, with a `background` as of `background_of`.

        Raises UserError: names that the model's text tower cannot embed, or a background that does not fit them.
        """
        return model.vocabulary(self.names, split=self.split, background=background)


def chosen_classes(classes: str | None, classes_file: Path | None, split: str | None) -> ClassChoice | None:
    """Read and check the classes before anything slow is loaded; None: the user named none.

    Raises UserError: several sources at once, an empty or repeated name, an unknown split.
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
        names = class_names.listed_names(classes, "--classes")
    else:
        return None
    text.class_synonyms(names)
    return ClassChoice(tuple(names), None)


def background_of(
    given: str | None, without: bool, model: str, choice: ClassChoice | None
) -> tuple[str, ...] | bool | None:
    """Read and check --background WORDS and --no-background before anything slow is loaded.

    Args:
        given: Words, comma-separated; "default": the toolkit's own.
        without: Whether no background is wanted.
        model: Name of the model.
        choice: The classes.

    Returns:
        As `CascadeCLIP.vocabulary` takes it: words; True: the toolkit's; False: none; None: as suits the classes.

    Raises:
        UserError: Both options, a model that is trained, or words that do not fit.
    """
    if given is None:
        return False if without else None
    if without:
        raise UserError("--background and --no-background contradict each other: give one of them.")
    if not dense.is_dense(model):
        raise UserError(
            f'--background is for training-free models (dense:CLIP), but "{model}" is trained: give --threshold 0.5,'
            " for example, so that pixels with a lower score belong to no class."
        )
    if given == "default":
        return True
    if Path(given).is_file():
        raise UserError(f'--background took "{given}", a file, for its words: write --background default.')
    words = tuple(word.strip() for word in given.split(","))
    classes = text.class_synonyms(choice.names) if choice is not None and choice.names is not None else []
    query_vocabulary.background_words(words, classes)
    return words


def own_classes(model: segmenter.CascadeCLIP) -> ClassChoice:
    """The classes that the model was trained on; raises UserError where it does not say which."""
    if model.split is None:
        raise UserError("Say what to look for: --classes road,tree,sky or --classes-file FILE or --split NAME.")
    return ClassChoice(None, model.split)
