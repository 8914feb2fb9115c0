"""A model whose layers are compared: found by any name, with access to the tokens after every block."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from cascade_clip.checkpoint.description import CONFIG
from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import ImageEncoder, ImageFeatures
from cascade_clip.model.clip.load import BUNDLED, model_config_of
from cascade_clip.model.dense import is_dense
from cascade_clip.model.head.cascade import CascadeHead
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.segmenter import CascadeCLIP

TokenKind = Literal["patch", "class"]
LayerKind = Literal["blocks", "taps", "stages"]
LAYER_KINDS: tuple[LayerKind, ...] = ("blocks", "taps", "stages")


def model_name(given: str) -> str:
    """Turn the name of a checkpoint, a run (its model) or a CLIP into one that `CascadeCLIP.from_pretrained` takes.

    A CLIP is an open_clip name with or without `:WEIGHTS`, `hf-hub:ORG/NAME` or `local-dir:FOLDER`. Raises UserError
    for neither a folder, nor a name on the Hub, nor a CLIP that open_clip knows.
    """
    if given == BUNDLED or is_dense(given):
        return given
    if given.startswith(("hf-hub:", "local-dir:")):
        return f"dense:{given}"
    folder = Path(given).expanduser()
    if folder.is_dir():
        is_run = not (folder / CONFIG).is_file() and (folder / "model" / CONFIG).is_file()
        return str(folder / "model" if is_run else folder)
    architecture, _, _ = given.partition(":")
    if "/" in architecture:
        return given
    try:
        model_config_of(architecture)
    except UserError as error:
        raise UserError(f'"{given}" is neither a checkpoint nor a run folder, and {error}') from error
    return f"dense:{given}"


def encoder_of(network: nn.Module) -> ImageEncoder:
    """Encoder of a `CascadeNetwork`, or plain CLIP's of any module that holds open_clip's image tower as `visual`."""
    if isinstance(network, CascadeNetwork):
        return network.encoder
    visual = network.visual
    if not isinstance(visual, VisionTransformer):
        raise TypeError(f"{type(network).__name__} holds no image tower")
    return plain_encoder(visual)


def plain_encoder(visual: VisionTransformer) -> ImageEncoder:
    """CLIP as published, on any grid: no prompts, a single class embedding (the released Cascade-CLIP adds it twice,
    SPEC section 3.2), open_clip's resize of positions."""
    return ImageEncoder(visual, taps=(), class_embeddings=1, position_resize="bicubic-antialias").eval()


@dataclass(frozen=True)
class BlockTokens:
    """The tokens after each of the L blocks as the next block sees them, before any norm or projection.

    L patch tokens (B, N, W), row by row over the grid, L class tokens (B, W), and the head's input: tapped blocks after
    norm and projection.
    """

    patch_tokens: tuple[Tensor, ...]
    class_token: tuple[Tensor, ...]
    features: ImageFeatures


@torch.inference_mode()
def block_tokens(encoder: ImageEncoder, image: Tensor) -> BlockTokens:
    """Encode images (B, 3, H, W) float32, normalised, in evaluation mode, and keep the tokens after every block.

    Raises UserError where a side is no multiple of the patch size.
    """
    outputs: list[Tensor] = []
    features = encoder(image, outputs)
    return BlockTokens(tuple(tokens[:, 1:] for tokens in outputs), tuple(tokens[:, 0] for tokens in outputs), features)


@dataclass(frozen=True)
class ObservedModel:
    """A model whose layers are compared, its encoder in evaluation mode.

    The `head` merges tapped blocks into stages (None: plain CLIP, which has none); `mean` and `std` are RGB on 0..255;
    `side` is the default side of the image square in pixels; `dtype` is the precision of products.
    """

    name: str
    title: str
    encoder: ImageEncoder
    head: CascadeHead | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int
    device: torch.device
    dtype: torch.dtype = torch.float32

    @property
    def most_channels(self) -> int:
        """Channels of the widest layer."""
        return int(max(self.encoder.visual.proj.shape))

    def layers(self, kinds: Sequence[LayerKind], tokens: TokenKind) -> tuple[str, ...]:
        """Names of its layers of these kinds, shallow to deep; only blocks have a class token."""
        named: dict[LayerKind, list[str]] = {"blocks": [f"block {i + 1}" for i in range(self.encoder.blocks)]}
        if tokens == "patch" and self.head is not None:
            named["taps"] = [f"tap {block}" for block in self.encoder.taps]
            named["stages"] = [f"stage {short_stage(stage)}" for stage in self.head.stages]
        return tuple(name for kind in kinds for name in named.get(kind, ()))


def observed_model(model: CascadeCLIP, name: str, title: str) -> ObservedModel:
    """A trained or training-free model, with the normalisation and image size of its recipe."""
    network: nn.Module = model.network
    data = model.recipe.data
    return ObservedModel(
        name,
        title,
        encoder_of(network),
        network.head if isinstance(network, CascadeNetwork) else None,
        data.mean,
        data.std,
        min(data.short_side, model.recipe.inference.crop),
        model.device,
        model.dtype,
    )


def observed_clip(model: CascadeCLIP, name: str, title: str) -> ObservedModel:
    """The CLIP that a model is built on, as published: no prompts, CLIP's normalisation; the model's image size."""
    clip, own = model.clip, observed_model(model, name, title)
    return replace(own, encoder=plain_encoder(clip.visual), head=None, mean=clip.mean, std=clip.std)


def short_stage(stage: Sequence[int]) -> str:
    """The blocks of a stage in short: "6-8", "12", "3,6,9"."""
    if len(stage) > 1 and list(stage) == list(range(stage[0], stage[-1] + 1)):
        return f"{stage[0]}-{stage[-1]}"
    return ",".join(map(str, stage))
