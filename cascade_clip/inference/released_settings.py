"""Settings of training-free models: general ones, and those of published figures, from `released_settings.toml`."""

import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cascade_clip.config.schema import InferenceConfig, Recipe
from cascade_clip.config.section import Integer, Number, PositiveInt, Section, Share
from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.data.catalogue import Split, find_benchmark
from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import BUNDLED
from cascade_clip.model.pamr import DEFAULT_STEPS
from cascade_clip.model.res_clip import ResClip
from cascade_clip.model.training_free import Method

GENERAL_SCALE = 40.0
"""Logit scale of most methods; without any, as some were released, a score would say nothing."""
BUNDLED_BACKGROUND = (
    *("grass", "sand", "water", "snow", "brick wall", "wooden floor", "tiled floor", "gravel", "cobblestones"),
    *("marble", "cloudy sky", "lava"),
)
"""What scenes of the bundled CLIP's world are filled with; of most other words it knows nothing."""
TEMPLATES = {"maskclip": "maskclip", "gem": "gem"}
"""Template sets of methods that were published with other sentences than the 80 for ImageNet."""
_FILE = Path(__file__).with_name("released_settings.toml")

_ThreeNumbers = tuple[Number, Number, Number]


class ResclipSettings(Section):
    """The numbers that ResCLIP tunes for each dataset."""

    temporary_threshold: Share
    """Pixels of the first pass whose best probability is below become class 0."""
    feedback: tuple[Number, Share]
    """(τs, λs): factor of the second pass's attention scores, and share of the feedback in them."""
    mixing: tuple[Number, Share]
    """(τr, λr): factor of the attention weights, and share of the earlier blocks' weights in them."""


class TrainingFreeSettings(TrainingFreeConfig):
    """How one method segments the images of one dataset in its released configuration."""

    crop: Annotated[Integer, Field(ge=0)]
    """Side of the window in pixels; 0: the whole image at once."""
    stride: PositiveInt
    """Distance of windows in pixels; without meaning where `crop` is 0."""
    short_side: PositiveInt
    """Length in pixels to which the short side of an image is resized first."""
    mean: _ThreeNumbers | None = None
    """Mean of the pixels, RGB in 0..255; None: CLIP's own."""
    std: _ThreeNumbers | None = None
    """Standard deviation of the pixels, likewise."""
    resclip: ResclipSettings | None = None
    """Numbers of ResCLIP; None: another method, or a dataset without published ones."""
    words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Query words by class name where they differ from those of the class list."""


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
    settings = _content()
    own = settings["methods"].get(method, {})
    merged: dict[str, Any] = {}
    for layer in (settings["common"], settings["methods"][own["like"]] if "like" in own else own):
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
def _content() -> dict[str, Any]:
    """The file's tables: "common", and "methods" by name."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


def general_recipe(recipe: Recipe, method: Method) -> Recipe:
    """A training-free model's recipe for images of users: windows of the method, scores against background words.

    The bundled CLIP, which knows a small world at its own scale, keeps its windows, and its background are the
    textures of that world.
    """
    if recipe.clip.architecture == BUNDLED:
        return _with(recipe, TrainingFreeConfig(logit_scale=GENERAL_SCALE, background=BUNDLED_BACKGROUND))
    settings = released_settings(method.name)
    scale = GENERAL_SCALE if settings.logit_scale == 1 else settings.logit_scale
    return _configured(recipe, settings, _free(settings).changed(logit_scale=scale))


def benchmark_recipe(recipe: Recipe, method: Method, split: Split) -> Recipe:
    """The recipe for evaluation: on a published benchmark as the method was released, else as it is.

    Scores are probabilities among all queries. On a published benchmark, query words and sentences are the released
    ones, too.
    """
    if find_benchmark(split.dataset) is None:
        free = recipe.inference.training_free or TrainingFreeConfig()
        return _with(recipe, free.changed(score="softmax"))
    settings = released_settings(method.name, split.dataset)
    own = recipe.text.templates
    templates = own if recipe.clip.architecture == BUNDLED else TEMPLATES.get(method.name, own)
    configured = _configured(recipe, settings, _free(settings).changed(score="softmax"))
    return configured.changed(text={"readable": False, "templates": templates})


def benchmark_method(method: Method, split: Split) -> Method:
    """The method with the numbers that were tuned for a benchmark: only ResCLIP has some."""
    tuned = released_settings("resclip", split.dataset).resclip
    return method if tuned is None or method.name != "resclip" else _tuned(method, tuned)


def with_refinement(inference: InferenceConfig, refine: bool | None) -> InferenceConfig:
    """Switch the refinement of a training-free model's scores on or off; None: as it is. UserError for others."""
    free = inference.training_free
    if free is None:
        if refine:
            raise UserError("Refining is for training-free models: this one is trained.")
        return inference
    if refine is None or refine == bool(free.pamr_steps):
        return inference
    return inference.changed(training_free={"pamr_steps": DEFAULT_STEPS if refine else 0})


def _tuned(method: Method, numbers: ResclipSettings) -> Method:
    resclip = ResClip(
        least_score=numbers.temporary_threshold,
        sharpness=numbers.feedback[0],
        feedback_share=numbers.feedback[1],
        residual_share=numbers.mixing[1],
    )
    return replace(method, patch_tokens=resclip.first_pass, scores=resclip.scores)


def _free(settings: TrainingFreeSettings) -> TrainingFreeConfig:
    shared = settings.model_dump(include=set(TrainingFreeConfig.model_fields))
    return TrainingFreeConfig(**shared | {"whole_image": settings.crop == 0})


def _configured(recipe: Recipe, settings: TrainingFreeSettings, free: TrainingFreeConfig) -> Recipe:
    data = {
        "short_side": settings.short_side,
        "mean": settings.mean or recipe.data.mean,
        "std": settings.std or recipe.data.std,
    }
    windows = {"crop": settings.crop or settings.short_side, "stride": settings.stride}
    return _with(recipe.changed(data=data, inference=windows), free)


def _with(recipe: Recipe, free: TrainingFreeConfig) -> Recipe:
    return recipe.changed(inference={"training_free": free})
