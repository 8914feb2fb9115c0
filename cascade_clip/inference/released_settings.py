"""Settings of training-free models: general ones, and those of published figures on their benchmarks."""

from __future__ import annotations

from dataclasses import replace

from cascade_clip.config.schema import InferenceConfig, Recipe
from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.data.catalogue import Split, find_benchmark
from cascade_clip.data.training_free import ResclipSettings, TrainingFreeSettings, released_settings
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


def general_recipe(recipe: Recipe, method: Method) -> Recipe:
    """A training-free model's recipe for images of users: windows of the method, scores against background words.

    The bundled CLIP, which knows a small world at its own scale, keeps its windows, and its background are the
    textures of that world.
    """
    if recipe.clip.architecture == BUNDLED:
        return _with(recipe, TrainingFreeConfig(logit_scale=GENERAL_SCALE, background=BUNDLED_BACKGROUND))
    settings = released_settings(method.name)
    scale = GENERAL_SCALE if settings.logit_scale == 1 else settings.logit_scale
    return _configured(recipe, settings, _free(settings).model_copy(update={"logit_scale": scale}))


def benchmark_recipe(recipe: Recipe, method: Method, split: Split) -> Recipe:
    """The recipe for evaluation: on a published benchmark as the method was released, else as it is.

    Scores are probabilities among all queries. On a published benchmark, query words and sentences are the released
    ones, too.
    """
    if find_benchmark(split.dataset) is None:
        free = recipe.inference.training_free or TrainingFreeConfig()
        return _with(recipe, free.model_copy(update={"score": "softmax"}))
    settings = released_settings(method.name, split.dataset)
    free = _free(settings).model_copy(update={"score": "softmax"})
    own = recipe.text.templates
    templates = own if recipe.clip.architecture == BUNDLED else TEMPLATES.get(method.name, own)
    text = recipe.text.model_copy(update={"readable": False, "templates": templates})
    return _configured(recipe, settings, free).model_copy(update={"text": text})


def benchmark_method(method: Method, split: Split) -> Method:
    """The method with the numbers that were tuned for a benchmark: only ResCLIP has some."""
    tuned = released_settings("resclip", split.dataset).resclip
    return method if tuned is None or method.name != "resclip" else _tuned(method, tuned)


def with_refinement(inference: InferenceConfig, refine: bool | None) -> InferenceConfig:
    """Switch the refinement of a training-free model's scores on or off; None: as it is.

    Raises:
        UserError: Refinement of a trained model.
    """
    free = inference.training_free
    if free is None:
        if refine:
            raise UserError("Only a training-free model's scores are refined: this one is trained.")
        return inference
    if refine is None or refine == bool(free.pamr_steps):
        return inference
    changed = free.model_copy(update={"pamr_steps": DEFAULT_STEPS if refine else 0})
    return inference.model_copy(update={"training_free": changed})


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
    return TrainingFreeConfig(**shared, whole_image=settings.crop == 0)


def _configured(recipe: Recipe, settings: TrainingFreeSettings, free: TrainingFreeConfig) -> Recipe:
    data = {
        "short_side": settings.short_side,
        "mean": settings.mean or recipe.data.mean,
        "std": settings.std or recipe.data.std,
    }
    windows = {"crop": settings.crop or settings.short_side, "stride": settings.stride}
    changed = recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})
    return _with(changed.model_copy(update={"inference": changed.inference.model_copy(update=windows)}), free)


def _with(recipe: Recipe, free: TrainingFreeConfig) -> Recipe:
    inference = recipe.inference.model_copy(update={"training_free": free})
    return recipe.model_copy(update={"inference": inference})
