"""Tensor names of the released checkpoints, and ours."""

import re
from dataclasses import dataclass

_DEAD = ("self_attn.", "norm1.")
_DEAD_BESIDE_FREQUENCIES = (*_DEAD, "multihead_attn.", "hlfs.h_proj.")
_DEAD_LAST_LAYER = r"(multihead_attn\.(v|proj)|hlfs\.proj|linear[12]|norm[23])\."

_LAYER_PARTS = {
    "multihead_attn.q": "q",
    "multihead_attn.k": "k",
    "multihead_attn.v": "v",
    "multihead_attn.proj": "proj",
    "hlfs.proj": "proj",
    "linear1": "linear1",
    "linear2": "linear2",
    "norm2": "norm_attention",
    "norm3": "norm_feedforward",
}
_FREQUENCY_TOKENS = {
    "hlfs.h_qkv.weight": "high_qkv.weight",
    "hlfs.l_q.weight": "low_q.weight",
    "hlfs.l_kv.weight": "low_kv.weight",
    "hlfs.l_proj.weight": "low_proj.weight",
    "hlfs.l_proj.bias": "low_proj.bias",
    "hlfs.prompt": "gate",
    "hlfs.top_down_transform": "transform",
}
_PLAIN = {
    "backbone.prompt_proj.weight": "encoder.prompts.proj.weight",
    "backbone.prompt_proj.bias": "encoder.prompts.proj.bias",
    "backbone.prompt_norm.weight": "encoder.prompt_norm.weight",
    "backbone.prompt_norm.bias": "encoder.prompt_norm.bias",
    "backbone.complex_weight": "encoder.spectral.weight",
}
PROMPTS = ("backbone.prompt_embeddings", "backbone.deep_prompt_embeddings")
"""The two tensors that are one `encoder.prompts.embeddings` here: the first block's and the deeper blocks'."""
TAP_PROJECTIONS = "backbone.proj_layers"
"""One stacked tensor (taps, W, C); here each tapped block has its own."""


@dataclass(frozen=True)
class UpstreamLayout:
    """The architecture, as far as names depend on it.

    Attributes:
        taps: Tapped blocks below the last, 1-based, in the order of `ln_layers` and `proj_layers`.
        decoder_layers: Layers of each decoder.
        frequencies: Decoders of SPT-SEG, whose layers hold the other hosts' attention too but never run it.
    """

    taps: tuple[int, ...]
    decoder_layers: int
    frequencies: bool = False


def own_name(name: str, layout: UpstreamLayout) -> str | None:
    """Our name of a released tensor of prompts, norms or head; None: never used (SPEC sections 4, 16).

    Raises KeyError for a name of no released Cascade-CLIP, ZegCLIP or SPT-SEG.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "decode_head.loss_decode.criterion.empty_weight" or name.startswith("backbone.proj_fre."):
        return None
    if match := re.fullmatch(r"backbone\.ln_layers\.(\d+)\.(weight|bias)", name):
        return f"encoder.tap_projections.{layout.taps[int(match[1])]}.norm.{match[2]}"
    if match := re.fullmatch(r"decode_head\.weights_s(\d+)", name):
        return f"head.aggregations.{int(match[1]) - 1}.weights"
    if match := re.fullmatch(r"decode_head\.(?:q_projs\.(\d+)|q_proj)\.(weight|bias)", name):
        return f"head.text_projections.{match[1] or 0}.{match[2]}"
    decoder = re.fullmatch(r"decode_head\.(?:cascade_decoders\.(\d+)|decoder_1)\.layers\.(\d+)\.(.+)", name)
    if decoder is None:
        raise KeyError(name)
    return _decoder_name(int(decoder[1] or 0), int(decoder[2]), decoder[3], layout)


def _decoder_name(stage: int, layer: int, part: str, layout: UpstreamLayout) -> str | None:
    if part.startswith(_DEAD_BESIDE_FREQUENCIES if layout.frequencies else _DEAD):
        return None
    last = layer == layout.decoder_layers - 1
    if last and re.match(_DEAD_LAST_LAYER, part):
        return None
    where = f"head.decoders.{stage}." + ("mask" if last else f"layers.{layer}")
    if part in _FREQUENCY_TOKENS:
        return f"{where}{'' if last else '.frequencies'}.{_FREQUENCY_TOKENS[part]}"
    module, _, kind = part.rpartition(".")
    return f"{where}.{_LAYER_PARTS[module]}.{kind}"


def clip_name(name: str) -> str | None:
    """open_clip's name of a released tensor of the frozen towers; None where it is not one of CLIP's."""
    if name.startswith("text_encoder."):
        return name.removeprefix("text_encoder.")
    inner = name.removeprefix("backbone.")
    own = ("prompt_", "deep_prompt_", "ln_layers.", "proj_layers", "complex_weight", "proj_fre.")
    if inner == name or inner.startswith(own):
        return None
    return f"visual.{inner}"
