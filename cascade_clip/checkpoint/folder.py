"""Checkpoint folders, and where they are: `config.json`, `model.safetensors`, a model card, sometimes CLIP's weights.

See cascade_clip/README.md, section 4.5.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import jinja2
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import cascade_clip
from cascade_clip.checkpoint.description import (
    CONFIG,
    ClipDescription,
    Description,
    SplitDescription,
    hash_of_settings,
    read_config,
    write_config,
)
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split
from cascade_clip.data.hub_address import HubAddress, hub_error
from cascade_clip.errors import UserError
from cascade_clip.files import usable_path
from cascade_clip.model.clip.known_weights import KnownWeights
from cascade_clip.model.clip.load import BUNDLED, VOCABULARY_FILE, Clip, from_parts, load_clip
from cascade_clip.model.weights import check_weights
from cascade_clip.output_folder import FolderKind, written_folder
from cascade_clip.reachability import hub_or_cache

MODEL = "model.safetensors"
CLIP = "clip.safetensors"
CARD = "README.md"
EXPORT = "export.json"
"""File beside an exported model, which distinguishes its folder from a checkpoint."""
CHECKPOINT_FOLDER = FolderKind(
    "checkpoint",
    record=CONFIG,
    keys=frozenset({"format_version", "tool", "clip", "recipe"}),
    files=(CONFIG, MODEL, CLIP, VOCABULARY_FILE, CARD),
    needed=(MODEL,),
)


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint folder: `tensors` are everything that is not CLIP's own, by our names.

    `split` are the classes that the model was trained on and which of them were seen; None: not known.
    """

    recipe: Recipe
    clip: Clip
    tensors: dict[str, Tensor]
    split: Split | None
    licence: str


def checkpoint_folder(folder_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """Find a checkpoint; one on the Hub is downloaded, or taken from the cache where the Hub cannot be reached.

    The Hub is asked each time for the commit of a branch or tag, so that updates are seen; files in the cache are not
    downloaded again.

    `folder_or_hub_id` is a folder, which is not opened, `bundled`, or `ORG/NAME` on the Hub; `revision` a branch, tag
    or commit there. Raises UserError for no such model or revision, terms that are to be accepted first, what is
    neither in the cache nor to be reached, or a revision of what is not on the Hub.
    """
    name = str(folder_or_hub_id)
    if name == BUNDLED:
        return Path(str(resources.files("cascade_clip") / "bundled" / "cascade-clip"))
    folder = usable_path(folder_or_hub_id, "The checkpoint")
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        if revision is not None:
            raise UserError(f'Revisions ("{revision}") are of models on the Hub, but "{name}" is a folder: leave it.')
        return folder
    try:
        with hub_or_cache():
            return Path(snapshot_download(name, revision=revision))
    except Exception as error:
        reason = hub_error(error, HubAddress(name, revision), kind="model")
        raise UserError(f'There is no folder "{name}", and as a model: {reason}') from error


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, scores: Mapping[str, float] | None = None, include_clip: bool | None = None
) -> None:
    """Write a checkpoint folder; an earlier one of that name is replaced as a whole, never half.

    Files that are no part of a checkpoint stay in the folder; `check_output_folder` refuses them where that is wanted.

    `scores` are names and values (fractions) that the model card shows. `include_clip`: store CLIP's own weights; None:
    only where they cannot be loaded by name.
    """
    with written_folder(folder, CHECKPOINT_FOLDER) as partial:
        write_description(partial, checkpoint, include_clip=include_clip)
        save_tensors(checkpoint.tensors, partial / MODEL)
        (partial / CARD).write_text(_model_card(checkpoint, scores or {}), encoding="utf-8")


def write_description(folder: Path, checkpoint: Checkpoint, *, include_clip: bool | None = None) -> None:
    """Write all of a checkpoint but its own tensors and its card into a folder that exists: `config.json`, CLIP.

    `include_clip` is as for `save_checkpoint`.
    """
    identity = checkpoint.clip.identity
    # The bundled CLIP's name is enough: it comes with every installation, and its hash is checked on loading.
    stored = include_clip if include_clip is not None else not (identity.by_name or identity.architecture == BUNDLED)
    clip = ClipDescription(
        architecture=identity.architecture,
        weights=identity.weights,
        settings=identity.model_config,
        settings_sha256=hash_of_settings(identity.model_config),
        sha256=identity.sha256,
        text=identity.has_text,
        stored=stored,
    )
    description = Description(
        tool=f"cascade-clip {cascade_clip.__version__}",
        licence=checkpoint.licence,
        clip=clip,
        split=None if checkpoint.split is None else SplitDescription.of(checkpoint.split),
        recipe=checkpoint.recipe,
    )
    write_config(folder, description)
    if stored:
        _save_clip(checkpoint.clip, folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; no pickle, and no network where CLIP's weights are in it or in the cache.

    Raises UserError for no checkpoint, a newer format, damaged files, or a CLIP whose hash differs.
    """
    if (folder / EXPORT).is_file():
        raise UserError(
            f'"{folder}" holds an exported model, not a checkpoint: use `predict` or `eval` with --runtime onnx, or'
            " give the checkpoint that it was exported from."
        )
    description = read_description(folder)
    return replace(description, tensors=_read_tensors(folder / MODEL))


def read_description(folder: Path) -> Checkpoint:
    """Read the result of `write_description`, a checkpoint without tensors; errors as of `load_checkpoint`."""
    config = read_config(folder)
    clip = _load_clip(folder, config.clip)
    split = None if config.split is None else config.split.split()
    return Checkpoint(config.recipe, clip, {}, split, config.licence)


def _load_clip(folder: Path, entry: ClipDescription) -> Clip:
    clip = _stored_clip(folder, entry) if entry.stored else load_clip(entry.architecture, entry.weights)
    if clip.identity.sha256 != entry.sha256:
        way_out = "Train the model anew" if entry.architecture == BUNDLED else "Delete the cached download"
        raise UserError(
            f'The CLIP weights found for "{entry.architecture}" are not those that "{folder}" was trained on'
            f" (hash {clip.identity.sha256[:12]}…, expected {entry.sha256[:12]}…): the masks would be wrong. {way_out},"
            " or use the toolkit's version that trained it."
        )
    return clip


def _stored_clip(folder: Path, entry: ClipDescription) -> Clip:
    file, vocabulary = folder / CLIP, folder / VOCABULARY_FILE
    known = KnownWeights(file, entry.settings)
    sha256 = known.sha256()
    tensors = _read_tensors(file, check=sha256 is None)
    own_words = vocabulary if vocabulary.exists() else None
    clip = from_parts(entry.architecture, entry.weights, entry.settings, tensors, vocabulary=own_words, sha256=sha256)
    if sha256 is None:
        known.remember(clip.identity.sha256)
    return clip


def _read_tensors(file: Path, *, check: bool = True) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name; `check` their numbers."""
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f'"{file}" cannot be read ({error}): copy the checkpoint again.') from error
    if check:
        check_weights(tensors, f'"{file}"')
    return tensors


def _save_clip(clip: Clip, folder: Path) -> None:
    keep_text = clip.identity.has_text
    if keep_text and clip.tokenize is None:
        raise UserError("This model's text tower was released: load the model again to save it.")
    state = {
        name: tensor for name, tensor in clip.model.state_dict().items() if keep_text or name.startswith("visual.")
    }
    save_tensors(state, folder / CLIP)
    if clip.vocabulary is not None:
        shutil.copyfile(clip.vocabulary, folder / VOCABULARY_FILE)


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors of any device as safetensors; an OSError says why the disk refuses, as for other files."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(file)) from error


def _model_card(checkpoint: Checkpoint, scores: Mapping[str, float]) -> str:
    template = (resources.files("cascade_clip") / "checkpoint" / "model_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)
    return environment.from_string(template).render(
        recipe=checkpoint.recipe,
        split=checkpoint.split,
        identity=checkpoint.clip.identity,
        licence=checkpoint.licence,
        parameters=sum(tensor.numel() for tensor in checkpoint.tensors.values()),
        scores=scores,
    )
