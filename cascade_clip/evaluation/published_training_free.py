"""Published figures of training-free methods, for comparison with those measured here."""

from collections.abc import Sequence
from functools import cache
from importlib import resources

from cascade_clip.config.section import Section

OPENAI = "openai"
"""The published figures' weights, by their name in open_clip."""


class PublishedMethod(Section):
    """Figures of one method from one source."""

    name: str
    """The method as shown."""
    method: str
    """Its name among the training-free methods."""
    tower: str
    """The CLIP's architecture in open_clip, without "-quickgelu"."""
    source: str
    """Keys of `PublishedTable.sources`, as in "a, c"."""
    pamr: bool = False
    """Scores were refined with PAMR."""
    miou: dict[str, float]
    """By split, in percent."""
    average: float | None = None
    """Over the eight benchmarks, as published; None: not given, or not for all of them."""

    @property
    def shown(self) -> str:
        """Name, refinement and source, as in "NACLIP + PAMR [f]"."""
        return f"{self.name}{' + PAMR' if self.pamr else ''} [{self.source}]"


class PublishedTable(Section):
    """Content of `published_training_free.json`."""

    note: str
    benchmarks: dict[str, str]
    """Short names of the splits, in the order of published tables."""
    sources: dict[str, str]
    rows: tuple[PublishedMethod, ...]


@cache
def published_table() -> PublishedTable:
    """All published figures."""
    file = resources.files("cascade_clip.evaluation").joinpath("published_training_free.json")
    return PublishedTable.model_validate_json(file.read_text(encoding="utf-8"))


def published_methods(
    method: str, architecture: str, weights: str | None, *, split: str | None = None
) -> tuple[PublishedMethod, ...]:
    """The published figures of a method ("naclip") with a CLIP, one row for each source, in the order of the file.

    Only OpenAI's weights have some. With `split` only rows that have a figure for it.
    """
    tower = architecture.removesuffix("-quickgelu")
    rows = published_table().rows if weights == OPENAI else ()
    return tuple(
        row for row in rows if (row.method, row.tower) == (method, tower) and (split is None or split in row.miou)
    )


def sources_of(rows: Sequence[PublishedMethod]) -> list[str]:
    """Explain the sources of some rows: "a: ..." each, in order."""
    named = {key for row in rows for key in row.source.split(", ")}
    return [f"{key}: {source}" for key, source in published_table().sources.items() if key in named]
