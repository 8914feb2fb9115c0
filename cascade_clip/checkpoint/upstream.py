"""Import of the released Cascade-CLIP's, ZegCLIP's and SPT-SEG's checkpoints, every tensor accounted for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cascade_clip.checkpoint.folder import CHECKPOINT_FOLDER, Checkpoint, save_checkpoint
from cascade_clip.checkpoint.upstream_names import PROMPTS, TAP_PROJECTIONS, UpstreamLayout, clip_name, own_name
from cascade_clip.config.schema import (
    ClipConfig,
    DataConfig,
    DecoderConfig,
    InferenceConfig,
    ModelConfig,
    PromptConfig,
    Recipe,
    SpectralConfig,
    TextConfig,
)
from cascade_clip.data.catalogue import find_benchmark, get_split
from cascade_clip.errors import UserError
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip, from_parts, load_clip, split_clip_name
from cascade_clip.model.clip.text import templates_of
from cascade_clip.model.network import CascadeNetwork, list_mismatches
from cascade_clip.model.stages import stages_of
from cascade_clip.model.weights import check_weights
from cascade_clip.output_folder import check_output_folder

LICENCE = "cc-by-nc-4.0"
"""The released weights' licence: no commercial use."""
HEAD_WIDTH = 64
SPECTRAL = "backbone.complex_weight"
"""The tensor that only SPT-SEG has; its first axis is the side of the grid."""
HIGH_FREQUENCIES = r"decode_head\..*layers\.0\.hlfs\.h_qkv\.weight"
"""Query, key and value of SPT-SEG's one head for high frequencies, stacked: three times the head's width in rows."""
LINEAR = r"decode_head\..*layers\.0\.linear1\.weight"
"""The hidden layer of a decoder's first feed-forward part."""
_AXES = {
    r"backbone\.conv1\.weight": 4,
    r"backbone\.(positional_embedding|proj)": 2,
    r"backbone\.(deep_)?prompt_embeddings": 3,
    re.escape(TAP_PROJECTIONS): 3,
    re.escape(SPECTRAL): 4,
    HIGH_FREQUENCIES: 2,
    LINEAR: 2,
    r"decode_head\.weights_s\d+": 1,
    r"text_encoder\.(token_embedding\.weight|positional_embedding)": 2,
}
"""How many axes the tensors have that the architecture is read from."""


@dataclass(frozen=True)
class ImportOptions:
    """Settings that the tensors do not contain.

    Attributes:
        vision_heads: Attention heads of the image tower; None: width / 64.
        text_heads: Attention heads of the text tower; None: width / 64.
        decoder_heads: Heads of the decoders; None: joint dimension / 64, or as the tensors of SPT-SEG imply.
        stages: Blocks of each stage; None: the blocks right below the last, as released.
        text_from: `ARCHITECTURE[:WEIGHTS]` of a CLIP whose text tower is taken where the file has none.
    """

    vision_heads: int | None = None
    text_heads: int | None = None
    decoder_heads: int | None = None
    stages: tuple[tuple[int, ...], ...] | None = None
    text_from: str | None = None


@dataclass(frozen=True)
class ImportedModel:
    """A network with a released checkpoint's weights, in evaluation mode; its architecture is read from the tensors.

    The unused tensors that were left out are `dropped`, by name, and hold so many numbers.
    """

    network: CascadeNetwork
    clip: Clip
    config: ModelConfig
    dropped: tuple[str, ...]
    dropped_numbers: int


def import_state_dict(state: Mapping[str, Tensor], options: ImportOptions | None = None) -> ImportedModel:
    """Build the network of a released state dict (names of SPEC section 8) and load it, every tensor accounted for.

    Raises UserError for missing, unexpected or misshapen tensors (all listed), numbers that cannot be weights, or heads
    that cannot be determined or do not fit.
    """
    options = options or ImportOptions()
    needed = ("backbone.conv1.weight", "backbone.positional_embedding", "backbone.proj", *PROMPTS)
    if missing := [name for name in needed if name not in state]:
        raise UserError(_mismatch(missing, []))
    _check_axes(state)
    config = _model_config(state, options)
    layout = _layout(state, config)
    clip_state, own_state, dropped, unexpected = _sort_tensors(state, layout)
    if unexpected:
        raise UserError(_mismatch([], sorted(unexpected)))
    check_weights({name: tensor for name, tensor in state.items() if name not in dropped}, "The file")
    clip = _clip(clip_state, state, options)
    network = build_network(config, clip.visual)
    network.load_own_tensors(own_state)
    numbers = sum(state[name].numel() for name in dropped)
    return ImportedModel(network.eval(), clip, config, tuple(sorted(dropped)), numbers)


def _check_axes(state: Mapping[str, Tensor]) -> None:
    """Check the tensors that the architecture is read from; all others are compared with it later."""
    wrong = [
        f"{name}: {tuple(tensor.shape)}, {axes} {'axes' if axes > 1 else 'axis'} expected"
        for name, tensor in state.items()
        for pattern, axes in _AXES.items()
        if re.fullmatch(pattern, name) and (tensor.ndim != axes or not tensor.numel())
    ]
    if wrong:
        raise UserError(f"The file's tensors have other shapes than released ones: {'; '.join(wrong[:10])}.")
    prompts, deep, positions = (state[name] for name in (*PROMPTS, "backbone.positional_embedding"))
    if len(prompts) != 1 or prompts.shape[1:] != deep.shape[1:]:
        shapes = f"{tuple(prompts.shape)} and {tuple(deep.shape)}"
        raise UserError(f"The file's visual prompts do not belong together: {' and '.join(PROMPTS)} are {shapes}.")
    if len(positions) < 2 or round((len(positions) - 1) ** 0.5) ** 2 != len(positions) - 1:
        raise UserError(f"The file has {len(positions)} position embeddings: one and a square number are expected.")


def _model_config(state: Mapping[str, Tensor], options: ImportOptions) -> ModelConfig:
    blocks = _count(state, r"backbone\.transformer\.resblocks\.(\d+)\.")
    per_stage = [len(state[name]) for name in sorted(state) if re.fullmatch(r"decode_head\.weights_s\d+", name)]
    if options.stages is not None:
        stages = options.stages
    else:
        first = blocks - sum(per_stage)
        bounds = [first + sum(per_stage[:s]) for s in range(len(per_stage) + 1)]
        stages = (*(tuple(range(a, b)) for a, b in pairwise(bounds)), (blocks,))
    prompts, deep = (state[name] for name in PROMPTS)
    spectral = SPECTRAL in state
    joint = state["backbone.proj"].shape[1]
    if spectral:
        name = _first(state, HIGH_FREQUENCIES)
        heads = _quotient(3 * joint, len(state[name]), f"three times the joint dimension and {name}")
    else:
        heads = _heads(joint, options.decoder_heads, "decoder-heads", "joint dimension")
    hidden = state[_first(state, LINEAR)].shape[0]
    return ModelConfig(
        host="spt-seg" if spectral else "zegclip",
        stages=stages,
        prompts=PromptConfig(tokens=prompts.shape[1], depth=1 + deep.shape[0]),
        spectral=SpectralConfig(grid=state[SPECTRAL].shape[0]) if spectral else SpectralConfig(),
        decoder=DecoderConfig(
            layers=_count(state, r"decode_head\..*?layers\.(\d+)\."),
            heads=heads,
            expansion=_quotient(hidden, joint, "the decoders' hidden layer and the joint dimension"),
        ),
    )


def _layout(state: Mapping[str, Tensor], config: ModelConfig) -> UpstreamLayout:
    blocks = _count(state, r"backbone\.transformer\.resblocks\.(\d+)\.")
    stages = stages_of(config, blocks)
    taps = tuple(block for stage in stages for block in stage if block != blocks)
    given = len(state[TAP_PROJECTIONS]) if TAP_PROJECTIONS in state else 0
    if len(set(taps)) < len(taps):
        raise UserError(f"The stages {stages} name a block twice, which released models do not.")
    if given != len(taps):
        raise UserError(f"The file projects {given} tapped blocks, but the stages {stages} name {len(taps)}.")
    return UpstreamLayout(taps, config.decoder.layers, config.host == "spt-seg")


def _sort_tensors(
    state: Mapping[str, Tensor], layout: UpstreamLayout
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str], list[str]]:
    clip_state: dict[str, Tensor] = {}
    own_state: dict[str, Tensor] = {
        "encoder.prompts.embeddings": torch.cat([state[name] for name in PROMPTS]),
        **{
            f"encoder.tap_projections.{tap}.proj": projection
            for tap, projection in zip(layout.taps, state.get(TAP_PROJECTIONS, torch.empty(0)), strict=True)
        },
    }
    dropped: list[str] = []
    unexpected: list[str] = []
    for name, tensor in state.items():
        if name in PROMPTS or name == TAP_PROJECTIONS:
            continue
        if (of_clip := clip_name(name)) is not None:
            clip_state[of_clip] = tensor
            continue
        try:
            own = own_name(name, layout)
        except (KeyError, IndexError):
            unexpected.append(name)
            continue
        if own is None:
            dropped.append(name)
        else:
            own_state[own] = tensor
    return clip_state, own_state, dropped, unexpected


def _clip(clip_state: dict[str, Tensor], state: Mapping[str, Tensor], options: ImportOptions) -> Clip:
    has_text = any(not name.startswith("visual.") for name in clip_state)
    conv, positions = clip_state["visual.conv1.weight"], clip_state["visual.positional_embedding"]
    width, patch = conv.shape[0], conv.shape[-1]
    grid = round((positions.shape[0] - 1) ** 0.5)
    config: dict[str, Any] = {
        "embed_dim": clip_state["visual.proj"].shape[1],
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": grid * patch,
            "layers": _count(state, r"backbone\.transformer\.resblocks\.(\d+)\."),
            "width": width,
            "head_width": width // _heads(width, options.vision_heads, "vision-heads", "image tower's width"),
            "patch_size": patch,
        },
        "text_cfg": None,
    }
    if has_text:
        vocabulary, text_width = clip_state["token_embedding.weight"].shape
        config["text_cfg"] = {
            "context_length": clip_state["positional_embedding"].shape[0],
            "vocab_size": vocabulary,
            "width": text_width,
            "heads": _heads(text_width, options.text_heads, "text-heads", "text tower's width"),
            "layers": _count(clip_state, r"transformer\.resblocks\.(\d+)\."),
        }
    elif options.text_from:
        donor = load_clip(*split_clip_name(options.text_from))
        config["text_cfg"] = donor.identity.model_config["text_cfg"]
        clip_state |= {
            k: v for k, v in donor.model.state_dict().items() if not k.startswith(("visual.", "logit_", "attn"))
        }
    return from_parts("imported", None, config, clip_state)


def _mismatch(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    names = list_mismatches(missing, unexpected, [])
    return f"The file is no released Cascade-CLIP, ZegCLIP or SPT-SEG of this architecture: {names}."


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many parts match, numbered in the pattern's group from 0 without a gap."""
    numbers = {int(match[1]) for name in state if (match := re.match(pattern, name))}
    if not numbers or max(numbers) != len(numbers) - 1:
        raise UserError(_mismatch([pattern.replace(r"(\d+)", str(len(numbers))).replace("\\", "")], []))
    return len(numbers)


def _first(state: Mapping[str, Tensor], pattern: str) -> str:
    for name in state:
        if re.fullmatch(pattern, name):
            return name
    raise UserError(_mismatch([pattern], []))


def _heads(width: int, given: int | None, option: str, what: str) -> int:
    if given is not None and (given < 1 or width % given):
        raise UserError(f"--{option} {given} does not divide the {what}, which is {width}.")
    if given is None and width % HEAD_WIDTH:
        raise UserError(
            f"The {what} is {width}, no multiple of {HEAD_WIDTH}, so its heads cannot be determined: give --{option} N."
        )
    return given or width // HEAD_WIDTH


def _quotient(whole: int, part: int, what: str) -> int:
    if whole % part:
        raise UserError(f"The file's shapes do not belong together: {what} ({whole}, {part}).")
    return whole // part


def recipe_of_import(
    name: str, split: str | None, *, templates: str | None = None, self_trained: bool = False
) -> Recipe:
    """Recipe of an imported model: released inference settings and templates.

    Args:
        name: Name of the model.
        split: Split it was trained on; None: not known.
        templates: Template set; None: that of the split's dataset.
        self_trained: A transductive model, with no bias on seen classes (SPEC section 5).
    """
    facts = find_benchmark(get_split(split).dataset) if split else None
    chosen = templates or (facts.templates if facts else "multi")
    templates_of(chosen)
    return Recipe(
        name=name,
        clip=ClipConfig(architecture="imported"),
        text=TextConfig(templates=chosen),
        data=DataConfig(split=split),
        inference=InferenceConfig(seen_bias=0.0 if self_trained else 0.1),
    )


def save_import(imported: ImportedModel, recipe: Recipe, folder: Path) -> None:
    """Write an imported model as a checkpoint folder, marked as non-commercial, else raise UserError."""
    check_output_folder(folder, CHECKPOINT_FOLDER)
    complete = recipe.changed(model=imported.config)
    split = get_split(recipe.data.split) if recipe.data.split else None
    tensors = imported.network.own_tensors()
    save_checkpoint(folder, Checkpoint(complete, imported.clip, tensors, split, LICENCE))
