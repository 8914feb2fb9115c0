"""Training-free segmentation: CLIP's patch tokens by one of several methods, compared with text embeddings."""

import re
from typing import NamedTuple

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import ClipConfig, DataConfig, InferenceConfig, Recipe, TextConfig
from cascade_clip.errors import UserError, counted
from cascade_clip.model.clip.load import BUNDLED, Clip, load_clip, split_clip_name
from cascade_clip.model.clip.open_clip_model import use_lean_activations
from cascade_clip.model.last_block import LastBlock, patch_cosines, run_to_last_block
from cascade_clip.model.training_free import METHODS, Method, default_method, method_named


class DenseTokens(NamedTuple):
    """Encoded images of a training-free network."""

    tokens: Tensor
    """(B, N, C) patch tokens, unit vectors in the joint space."""
    grid: tuple[int, int]
    """(h, w) of the patches, N = h·w, row by row."""
    block: LastBlock | None
    """The images in the tower, for methods that look at them once more when the queries are known; None: not needed."""


class DenseNetwork(nn.Module):
    """Image and text embeddings in, cosines out, without any training; `visual` is the ViT as `method` changes it."""

    def __init__(self, visual: VisionTransformer, method: Method) -> None:
        """Wrap open_clip's ViT, whose weights are shared; raises UserError if the method cannot run on this tower."""
        super().__init__()
        method.check_tower(visual)
        self.method = method
        self.visual = visual if method.tower is None else method.tower(visual)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return int(self.visual.patch_size[0])

    def encode(self, image: Tensor) -> DenseTokens:
        """Encode images (B, 3, H, W) once; `cosines` compares the result with any number of vocabularies.

        Sides that are no multiples of the patch size: most methods do not see the pixels beyond the last whole patch,
        some fill the images up with 0 at the right and bottom, see `Method.pads`. Raises UserError for fewer patches
        than needed.
        """
        block = self.last_block(image)
        tokens = F.normalize(block.project(self.method.patch_tokens(block)), dim=-1)
        return DenseTokens(tokens, block.grid, None if self.method.scores is None else block)

    def last_block(self, image: Tensor) -> LastBlock:
        """Run images (B, 3, H, W) up to the last block; otherwise as `encode`."""
        method, patch = self.method, self.patch_size
        height, width = image.shape[-2:]
        if method.pads:
            image = F.pad(image, (0, -width % patch, 0, -height % patch))
        patches = (image.shape[-2] // patch) * (image.shape[-1] // patch)
        if patches < method.patches:
            least = counted(method.patches, "patch")
            raise UserError(
                f"An image of {height} x {width} pixels holds {counted(patches, 'patch')} of {patch} x {patch}, but"
                f" {method.title} needs at least {least}: give a larger image or choose another method."
            )
        return run_to_last_block(self.visual, image, method.positions, method.reads)

    def cosines(self, image: Tensor | DenseTokens, text: Tensor) -> Tensor:
        """Cosines (B, Q, h, w) float32 of every patch and every query, on the grid of patches (logit scale 1).

        From images (B, 3, H, W) float, normalised, or the result of `encode`, and the queries' text embeddings (Q, C),
        unit vectors. The refined MaskCLIP gives smoothed probabilities in their place, see `refined_scores`.
        """
        encoded = self.encode(image) if isinstance(image, Tensor) else image
        cosines = patch_cosines(encoded.tokens, text, encoded.grid)
        if self.method.scores is None or encoded.block is None:
            return cosines
        return self.method.scores(encoded.block, cosines, text)

    def forward(self, image: Tensor | DenseTokens, text: Tensor) -> Tensor:
        """The `cosines`, where a trained network gives mask logits."""
        return self.cosines(image, text)


PREFIX, SELF_SELF_PREFIX = "dense:", "dense-self:"
DEFAULT_WEIGHTS = "openai"
_SIDE = 512
_OVERLAP = 426 / 512


def is_dense(name: str) -> bool:
    """Whether a model's name is that of a training-free one."""
    return name.startswith((PREFIX, SELF_SELF_PREFIX))


def _clip_and_method(name: str) -> tuple[str, Method | None]:
    """Take `dense:CLIP`, `dense:CLIP?method=NAME` or `dense-self:CLIP` apart; None: the default method."""
    prefix = SELF_SELF_PREFIX if name.startswith(SELF_SELF_PREFIX) else PREFIX
    given = name.removeprefix(prefix)
    match = re.fullmatch(r"(.*)\?([^?=/.]*)(?:=([^?]*))?", given)
    if match is None:
        return given, METHODS["self_self"] if prefix == SELF_SELF_PREFIX else None
    clip, option, value = match.groups(default="")
    if prefix == SELF_SELF_PREFIX:
        raise UserError(f'"{name}" takes no option: write {PREFIX}{given}.')
    if option != "method":
        raise UserError(f'"{name}" sets "{option}", which is no option: write {PREFIX}{clip}?method=NAME.')
    return clip, method_named(value)


def load_dense(name: str) -> tuple[DenseNetwork, Clip, Recipe]:
    """Load a training-free model: its network, its CLIP, and a recipe with CLIP's own normalisation and no bias.

    `dense:CLIP` takes the default method, see `default_method`; `dense:CLIP?method=NAME` one of `METHODS`;
    `dense-self:CLIP` is short for `dense:CLIP?method=self_self`. CLIP is `bundled`, an open_clip name with `:WEIGHTS`
    (default `openai`), `hf-hub:…` or `local-dir:…`. Raises UserError for a CLIP that cannot be loaded, an unknown
    method, or one that cannot run on this CLIP.
    """
    named, chosen = _clip_and_method(name)
    architecture, weights = split_clip_name(named, default=DEFAULT_WEIGHTS)
    clip = load_clip(architecture, weights)
    use_lean_activations(clip.visual)
    patch = int(clip.visual.patch_size[0])
    # The bundled CLIP knows a small world at its own scale; photographs are taken at the size of the paper.
    side = int(clip.visual.image_size[0]) if architecture == BUNDLED else _SIDE // patch * patch
    method = chosen or default_method(clip.visual, patches=(side // patch) ** 2)
    recipe = Recipe(
        name=name,
        clip=ClipConfig(architecture=architecture, weights=weights or DEFAULT_WEIGHTS),
        text=TextConfig(templates="multi" if architecture == BUNDLED else "imagenet", half=False, readable=True),
        data=DataConfig(mean=clip.mean, std=clip.std, short_side=side, crop=side),
        inference=InferenceConfig(crop=side, stride=max(1, round(side * _OVERLAP)), seen_bias=0.0),
    )
    return DenseNetwork(clip.visual, method), clip, recipe
