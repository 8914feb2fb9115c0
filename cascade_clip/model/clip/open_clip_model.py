"""open_clip's model from its settings, with drawn weights or empty; its activation with less to keep."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError, first_line
from cascade_clip.model.weights import without_weights

LOGIT_SCALE = math.log(1 / 0.07)
"""CLIP's initial value, for state dicts without one; segmentation never reads it."""
# open_clip's constructor always builds a text tower; this one stands in where a checkpoint has none.
NO_TEXT_TOWER = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


def build_model(model_config: Mapping[str, Any], *, seed: int | None = None, empty: bool = False) -> nn.Module:
    """Build open_clip's model from its settings, with random weights that the caller replaces.

    Without a `text_cfg` the text tower is a stand-in of negligible size. `seed` draws the weights, and leaves the
    global random state; if `empty`, none are drawn: parameters have shapes but no memory ("meta"), see `fill_empty`.
    Raises UserError where the image tower is no ViT with a class token and a projection, or open_clip refuses the
    settings.
    """
    settings = deepcopy(dict(model_config))
    custom_text = settings.pop("custom_text", False)
    settings["text_cfg"] = settings.get("text_cfg") or NO_TEXT_TOWER
    if "multimodal_cfg" in settings or "hf_model_name" in settings["text_cfg"]:
        raise UserError(
            "This CLIP's text tower is not a plain transformer of open_clip; choose a ViT model without it."
        )
    model_class = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    _check_settings(settings)
    with torch.random.fork_rng(devices=[]), without_weights() if empty else nullcontext():
        torch.manual_seed(0 if seed is None else seed)
        try:
            model: nn.Module = model_class(**settings)
        except Exception as error:
            raise UserError(f"open_clip cannot build a CLIP of these settings: {first_line(error)}.") from error
    _check_tower(model.visual)
    return model.float().eval().requires_grad_(False)


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check what open_clip takes without a word and computes otherwise than it is meant."""
    vision = settings.get("vision_cfg")
    if not isinstance(vision, Mapping) or not isinstance(settings["text_cfg"], Mapping):
        raise UserError("open_clip's settings are no CLIP's: vision_cfg and text_cfg are tables of keys and values.")
    width, head = vision.get("width"), vision.get("head_width")
    if isinstance(width, int) and isinstance(head, int) and head > 0 and width % head:
        raise UserError(
            f"open_clip's settings are no CLIP's: heads of {head} channels do not divide a width of {width}."
        )
    if not isinstance(settings.get("quick_gelu", False), bool):
        raise UserError(
            f"open_clip's settings are no CLIP's: quick_gelu is {settings['quick_gelu']!r}, no truth value."
        )


def fill_empty(model: nn.Module) -> None:
    """Give parameters that are still empty memory and zeros, in place."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta:
                setattr(module, name, nn.Parameter(torch.zeros(parameter.shape), requires_grad=False))


def _check_tower(visual: object) -> None:
    fits = (
        isinstance(visual, VisionTransformer)
        and visual.pool_type == "tok"
        and visual.attn_pool is None
        and not visual.final_ln_after_pool
        and visual.proj is not None
        and visual.patch_size[0] == visual.patch_size[1]
    )
    if not fits:
        raise UserError(
            f"The image tower of this CLIP ({type(visual).__name__}) is no ViT with a class token and a projection,"
            " which Cascade-CLIP needs; ViT-B-32, ViT-B-16, ViT-L-14 and their relatives are."
        )


SLOPE = 1.702
"""x · sigmoid(1.702 x), as OpenAI trained with."""


class LeanQuickGELU(nn.Module):
    """x · sigmoid(1.702 x) = SiLU(1.702 x) / 1.702: open_clip's `QuickGELU` in value and gradient, up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape and float type to one of the same."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _QuickGELU.apply(x)
        return F.silu(SLOPE * x, inplace=True).mul_(1 / SLOPE)


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scaled = SLOPE * x
        ctx.save_for_backward(scaled)
        return F.silu(scaled).mul_(1 / SLOPE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (scaled,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, scaled)


def use_lean_activations(visual: nn.Module) -> None:
    """Replace every `QuickGELU` of an image tower by `LeanQuickGELU`; other activations stay."""
    for module in list(visual.modules()):
        for name, child in module.named_children():
            if type(child) is QuickGELU:
                setattr(module, name, LeanQuickGELU())
