"""Vocabularies of training-free models: a query a word, and the words of the background."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cascade_clip.config.class_names import class_synonyms, spoken_form
from cascade_clip.config.schema import Recipe
from cascade_clip.config.training_free import BACKGROUND, TrainingFreeConfig
from cascade_clip.data.catalogue import Split
from cascade_clip.errors import UserError
from cascade_clip.inference.released_settings import query_words
from cascade_clip.inference.vocabulary import Queries, Vocabulary
from cascade_clip.model.training_free import Method

Embed = Callable[[Sequence[Sequence[str]]], Tensor]
"""Q groups of words to their text embeddings (Q, C)."""


class BackgroundWords(NamedTuple):
    """Words of the background."""

    words: tuple[str, ...]
    """Scores of classes are measured against these."""
    wins: bool
    """Whether pixels that they win belong to no class."""


def query_vocabulary(
    recipe: Recipe,
    method: Method,
    embed: Embed,
    classes: Sequence[str] | None,
    split: Split | None,
    given: Tensor | None,
    background: Sequence[str] | bool | None,
) -> Vocabulary:
    """The vocabulary of a training-free model with the settings of `recipe`, whose method has own words for benchmarks.

    Its K classes are named, else those of `split`, else of the K rows of `given`, (K, C) text embeddings of the classes
    in place of their words'; `background` is as of `background_words`.
    """
    words: Sequence[Sequence[str]]
    if split is not None:
        readable = [prompt.split("|") for prompt in split.prompts]
        words = readable if recipe.text.readable else query_words(split, method.name)
    elif classes is None and given is not None:
        words = [[f"class {index}"] for index in range(len(given))]
    else:
        words = class_synonyms(classes or ())
    free = recipe.inference.training_free or TrainingFreeConfig()
    chosen = background_words(background, words, free.background)
    # Words of a benchmark are scored among themselves, and given embeddings may be those of another text tower.
    unscored = given is not None or free.score == "softmax"
    text, queries = embedded_queries(words, embed, chosen if chosen.wins or not unscored else None, given)
    if split is not None:
        return Vocabulary.of_split(split, text, queries)
    return Vocabulary.of_names([synonyms[0] for synonyms in words], text, queries)


def background_words(
    given: Sequence[str] | bool | None, classes: Sequence[Sequence[str]], usual: Sequence[str] = BACKGROUND
) -> BackgroundWords:
    """Decide on the background of classes, each with its words.

    Args:
        given: Words; True: the usual ones; False: these, but only to measure scores; None: True for a single class,
            which would win every pixel without, else False.
        classes: Words of each class. Usual background words that are a class's are the class's.
        usual: The model's own background words.

    Raises UserError for no word, an empty or repeated one, or a word given that is a class's.
    """
    if given is None or isinstance(given, bool):
        return BackgroundWords(tuple(usual), len(classes) == 1 if given is None else given)
    if isinstance(given, str):
        raise UserError(f'background is one string, "{given}": give a list of words, for example ["sky", "wall"].')
    words, own = [spoken_form(word) for word in given], {spoken_form(word) for words in classes for word in words}
    if not words or not all(words):
        raise UserError("The background has an empty word: give words such as sky,wall, or leave the default.")
    for position, word in enumerate(words):
        if word in words[:position]:
            raise UserError(f'The background word "{given[position]}" is given twice: name every word once.')
        if word in own:
            raise UserError(f'"{given[position]}" is both a class and a background word: it can only be one of them.')
    return BackgroundWords(tuple(given), wins=True)


def embedded_queries(
    classes: Sequence[Sequence[str]], embed: Embed, background: BackgroundWords | None, given: Tensor | None = None
) -> tuple[Tensor, Queries]:
    """Embed the words of classes, and those of the background: (Q, C) text embeddings and what each row stands for.

    Without `background` scores are probabilities among the queries; `given` (K, C) are text embeddings of the classes
    in place of their words'.
    """
    rows = [(index, word) for index, words in enumerate(classes) for word in words]
    if given is not None:
        rows = [(index, words[0]) for index, words in enumerate(classes)]
    text = embed([[word] for _, word in rows]) if given is None else given
    if background is None:
        return text, Queries.of_classes([index for index, _ in rows])
    own = {spoken_form(word) for _, word in rows}
    words = {spoken_form(word): word for word in background.words}
    beyond = [word for spoken, word in words.items() if spoken not in own]
    index = [index for index, _ in rows] + [len(classes)] * len(beyond)
    reference = [spoken_form(word) in words for _, word in rows] + [True] * len(beyond)
    queries = Queries(torch.tensor(index), torch.tensor(reference), tuple(beyond) if background.wins else ())
    return torch.cat([text, embed([[word] for word in beyond])]) if beyond else text, queries
