"""What a command looks for: names of classes or a split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from cascade_clip.data.catalogue import Split
    from cascade_clip.report.palette import Colour
    from cascade_clip.segmenter import CascadeCLIP


class Vocabulary(NamedTuple):
    """What is looked for: either names or a split."""

    names: tuple[str, ...]
    split: Split | None


def chosen_vocabulary(classes: str | None, classes_file: Path | None, split: str | None) -> Vocabulary | None:
    """Read and check the classes before anything slow is loaded.

    Returns:
        The class names as given or the split; None where the user named neither.

    Raises:
        UserError: Several sources at once, an empty or repeated name, an unknown split.
    """
    from cascade_clip.data.catalogue import get_split
    from cascade_clip.errors import UserError
    from cascade_clip.inference.inputs import read_class_file
    from cascade_clip.model.clip.text import class_synonyms

    given = {"--classes": classes, "--classes-file": classes_file, "--split": split}
    used = [option for option, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"Give only one of {' and '.join(used)}: each names the classes to look for.")
    if split is not None:
        return Vocabulary((), get_split(split))
    if classes_file is not None:
        names = read_class_file(classes_file)
    elif classes is not None:
        names = [name.strip() for name in classes.split(",")]
    else:
        return None
    class_synonyms(names)
    return Vocabulary(tuple(names), None)


def own_vocabulary(segmenter: CascadeCLIP) -> Vocabulary:
    """The classes that the model was trained on.

    Raises:
        UserError: It does not say which.
    """
    from cascade_clip.errors import UserError

    if segmenter.split is None:
        raise UserError("Say what to look for: --classes road,tree,sky or --classes-file FILE or --split NAME.")
    return Vocabulary((), segmenter.split)


def spoken_names(vocabulary: Vocabulary) -> tuple[str, ...]:
    """The K names as results show them: of synonyms the first."""
    if vocabulary.split is not None:
        return vocabulary.split.class_names
    return tuple(name.split("|")[0].strip() for name in vocabulary.names)


def embedded(segmenter: CascadeCLIP, vocabulary: Vocabulary) -> dict[str, Any]:
    """What `segment` is given for every image; what is wrong with the words shows here, before the first image."""
    if vocabulary.split is not None:
        segmenter.text_embeddings_for(vocabulary.split)
        return {"split": vocabulary.split}
    return {"classes": spoken_names(vocabulary), "text_embeddings": segmenter.embed(vocabulary.names)}


def text_embeddings(segmenter: CascadeCLIP, vocabulary: Vocabulary) -> Tensor:
    """Text embeddings (K, C) of what is looked for."""
    if vocabulary.split is not None:
        return segmenter.text_embeddings_for(vocabulary.split)
    return segmenter.embed(vocabulary.names)


def known_colours(vocabulary: Vocabulary) -> dict[str, Colour]:
    """Colours that a split gives its classes, by name."""
    return {} if vocabulary.split is None else {entry.name: entry.colour for entry in vocabulary.split.classes}
