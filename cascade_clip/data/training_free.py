"""Settings of published training-free figures by method and dataset, from `training_free.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cascade_clip.config.section import Section
from cascade_clip.data.catalogue import Split

_FILE = Path(__file__).with_name("training_free.toml")

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[int, Field(ge=1)]
_ThreeNumbers = tuple[float, float, float]


class ResclipSettings(Section):
    """The numbers that ResCLIP tunes for each dataset ."""

    temporary_threshold: _Share
    """Pixels of the first pass whose best probability is below become class 0."""
    feedback: tuple[float, _Share]
    """(τs, λs): factor of the second pass's attention scores, and share of the feedback in them."""
    mixing: tuple[float, _Share]
    """(τr, λr): factor of the attention weights, and share of the earlier blocks' weights in them."""


class TrainingFreeSettings(Section):
    """How one method segments the images of one dataset in its released configuration."""

    logit_scale: Annotated[float, Field(gt=0)]
    """Factor of the cosines before the softmax over all query words."""
    crop: Annotated[int, Field(ge=0)]
    """Side of the window in pixels; 0: the whole image at once."""
    stride: _Positive
    """Distance of windows in pixels; without meaning where `crop` is 0."""
    short_side: _Positive
    """Length in pixels to which the short side of an image is resized first."""
    long_side: _Positive = 2048
    """Longest that the long side may become by this; the short side is then shorter."""
    keep_aspect: bool = True
    """False: images are resized to `short_side` x `short_side`."""
    pad_windows: bool = False
    """Pad windows with zeros on all sides to multiples of the patch, instead of leaving the last pixels unseen."""
    probability_threshold: _Share = 0.0
    """Pixels whose best class has a lower probability become class 0; 0: none."""
    area_threshold: _Share | None = None
    """Classes other than 0 with at most this share of the pixels that are not class 0 are dropped; None: none is."""
    pamr_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of PAMR on the scores at full size; 0: no refinement."""
    pamr_dilations: tuple[_Positive, ...] = (8, 16)
    """Distances of PAMR's neighbours in pixels."""
    mean: _ThreeNumbers | None = None
    """Mean of the pixels, RGB in 0..255; None: CLIP's own."""
    std: _ThreeNumbers | None = None
    """Standard deviation of the pixels, likewise."""
    resclip: ResclipSettings | None = None
    """Numbers of ResCLIP; None: another method, or a dataset without published ones."""
    words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Query words by class name where they differ from those of the class list."""


class _File(Section):
    common: dict[str, Any]
    methods: dict[str, dict[str, Any]]


def released_settings(method: str, dataset: str | None = None) -> TrainingFreeSettings:
    """Look up the settings of a method on a dataset.

    Args:
        method: Name of the method, for example "scclip"; one without settings of its own takes the common ones.
        dataset: Name of the dataset, for example "voc-background" (`Split.dataset`); one without settings, and None,
            takes those of the method.

    Example:
        >>> settings = released_settings("sclip", "voc-background")
        >>> settings.logit_scale, settings.crop, settings.probability_threshold, settings.area_threshold
        (65.0, 224, 0.1, 0.1)
    """
    methods = _content().methods
    own = methods.get(method, {})
    merged: dict[str, Any] = {}
    for layer in (_content().common, methods[own["like"]] if "like" in own else own):
        merged |= {key: value for key, value in layer.items() if key != "datasets"}
        merged |= layer.get("datasets", {}).get(dataset, {})
    return TrainingFreeSettings.model_validate(merged)


def query_words(split: Split, method: str) -> tuple[tuple[str, ...], ...]:
    """Words of each class, in label order, as the published figures of a method were made with.

    A class's probability is the largest of its words'. The same word may stand for two classes: "bed" is background and
    a class of its own in COCO-Object.

    Example:
        >>> from cascade_clip.data.catalogue import get_split
        >>> query_words(get_split("voc"), "sclip")[3:5]
        (('ship',), ('bottle',))
    """
    other = released_settings(method, split.dataset).words
    return tuple(other.get(entry.name, entry.queries) for entry in split.classes)


@cache
def _content() -> _File:
    return _File.model_validate(tomllib.loads(_FILE.read_text(encoding="utf-8")))
