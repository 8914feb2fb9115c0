"""Training-free models by name: `dense:ARCHITECTURE[:WEIGHTS]`, `dense-self:…`."""

from __future__ import annotations

from cascade_clip.config.schema import ClipConfig, DataConfig, InferenceConfig, Recipe, TextConfig
from cascade_clip.model.clip.load import BUNDLED, Clip, load_clip
from cascade_clip.model.dense import DenseAttention, DenseNetwork

PREFIXES: dict[str, DenseAttention] = {"dense:": "value", "dense-self:": "self-self"}
DEFAULT_WEIGHTS = "openai"
_SIDE = 512
_OVERLAP = 426 / 512


def is_dense(name: str) -> bool:
    """Whether a model's name asks for training-free segmentation."""
    return name.startswith(tuple(PREFIXES))


def load_dense(name: str) -> tuple[DenseNetwork, Clip, Recipe]:
    """Load a training-free model.

    Args:
        name: `dense:NAME` reads the last block's value path, `dense-self:NAME` lets patches attend to similar ones.
            NAME is `bundled`, an open_clip name with `:WEIGHTS` (default `openai`), `hf-hub:…` or `local-dir:…`.

    Returns:
        The network, its CLIP, and a recipe that says how images reach it: CLIP's own normalisation, no bias.

    Raises:
        UserError: A CLIP that cannot be had.
    """
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    architecture, weights = _split_name(name.removeprefix(prefix))
    clip = load_clip(architecture, weights)
    network = DenseNetwork(clip.visual, attention=PREFIXES[prefix])
    own_side = int(clip.visual.image_size[0])
    # The bundled CLIP knows a small world at its own scale; photographs are taken at the size of the paper.
    side = own_side if architecture == BUNDLED else _SIDE // network.patch_size * network.patch_size
    recipe = Recipe(
        name=name,
        clip=ClipConfig(architecture=architecture, weights=weights or DEFAULT_WEIGHTS),
        text=TextConfig(templates="multi" if architecture == BUNDLED else "imagenet", half=False, readable=True),
        data=DataConfig(mean=clip.mean, std=clip.std, short_side=side, crop=side),
        inference=InferenceConfig(crop=side, stride=max(1, round(side * _OVERLAP)), seen_bias=0.0),
    )
    return network, clip, recipe


def _split_name(name: str) -> tuple[str, str | None]:
    """Split "ViT-B-16:laion2b_s34b_b88k"; `bundled`, hf-hub and local-dir bring their own weights."""
    if name == BUNDLED or name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    architecture, _, weights = name.partition(":")
    return architecture, weights or DEFAULT_WEIGHTS
