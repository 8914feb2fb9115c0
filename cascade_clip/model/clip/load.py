"""Which CLIP, its weights, its tokenizer, and a hash that identifies them."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from cascade_clip.config.schema import ClipConfig
from cascade_clip.errors import UserError, closest, first_line, raise_refusal
from cascade_clip.files import usable_path
from cascade_clip.model.clip.known_weights import KnownWeights
from cascade_clip.model.clip.open_clip_model import LOGIT_SCALE, NO_TEXT_TOWER, build_model, fill_empty
from cascade_clip.model.weights import check_weights
from cascade_clip.reachability import hub_or_cache

log = logging.getLogger(__name__)

Pixel = tuple[float, float, float]
BUNDLED = "bundled"
RANDOM = "random"
CONFIG_FILE = "open_clip_config.json"
VOCABULARY_FILE = "bpe.txt.gz"
_WAY_OUT = (
    "Connect to the internet once, or use a local CLIP: a weights file (safetensors, state dict or OpenAI's"
    " ViT-B-16.pt), a folder (`local-dir:FOLDER`), or `bundled`, the small CLIP of this package. For training:"
    ' `--set clip.weights="FILE"` or `--set clip.architecture="bundled"`; for predict and eval:'
    " `dense:ARCHITECTURE:FILE` or `dense:bundled` as the model."
)


def _pixel(fractions: Sequence[float]) -> Pixel:
    red, green, blue = (255 * float(value) for value in fractions)
    return red, green, blue


CLIP_MEAN, CLIP_STD = _pixel(open_clip.OPENAI_DATASET_MEAN), _pixel(open_clip.OPENAI_DATASET_STD)


@dataclass(frozen=True)
class ClipIdentity:
    """Which CLIP it is.

    Attributes:
        architecture: Name it was asked for by (open_clip name, `hf-hub:`, `local-dir:`, config file, `bundled`).
        weights: Pretrained tag or file it was asked for by; None where the architecture implies the weights.
        model_config: open_clip's constructor settings: `embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`…
        sha256: Hash over every tensor of both towers as float32, see `hash_of_weights`.
        has_text: Whether there is a text tower.
    """

    architecture: str
    weights: str | None
    model_config: dict[str, Any]
    sha256: str
    has_text: bool = True

    @property
    def by_name(self) -> bool:
        """Whether the weights can be had again by name, on any machine with a network."""
        if self.architecture.startswith("hf-hub:"):
            return True
        return self.weights is not None and self.weights in open_clip.list_pretrained_tags_by_model(self.architecture)


@dataclass
class Clip:
    """A loaded CLIP.

    Attributes:
        model: open_clip's model with both towers, fp32, eval mode, frozen.
        tokenize: Texts -> token ids (len(texts), context) int64; None: no text tower, or a released one.
        identity: Which CLIP it is.
        vocabulary: The tokenizer's own merges file; None: CLIP's.
        mean: Mean of its own preprocessing, RGB on 0..255.
        std: Standard deviation of its own preprocessing, RGB on 0..255.
    """

    model: nn.Module
    tokenize: Callable[[list[str]], Tensor] | None
    identity: ClipIdentity
    vocabulary: Path | None = None
    mean: Pixel = CLIP_MEAN
    std: Pixel = CLIP_STD

    @property
    def visual(self) -> VisionTransformer:
        """The image tower."""
        return self.model.visual

    def without_text(self) -> Clip:
        """The same CLIP with nothing but its image tower, so that the text tower's memory can be freed."""
        towers = nn.Module()
        towers.visual = self.visual
        return replace(self, model=towers, tokenize=None)


def load_clip(architecture: str, weights: str | None = None) -> Clip:
    """Load a CLIP; random weights only where they are asked for.

    Args:
        architecture: An open_clip name ("ViT-B-16-quickgelu"), `hf-hub:ORG/NAME`, `local-dir:FOLDER`, a JSON file with
            open_clip's model configuration, or `bundled`.
        weights: A pretrained tag of open_clip, a local file (safetensors, PyTorch state dict, OpenAI's TorchScript
            archive), or `random` / `random:SEED`. None, or the recipes' default, for hf-hub, local-dir and bundled,
            which have their own.

    Raises UserError for an unknown name or tag, weights that cannot be loaded or do not fit, a tower without a class
    token, or weights for a CLIP that has its own.
    """
    if architecture == BUNDLED or architecture.startswith(("local-dir:", "hf-hub:")):
        if weights not in {None, ClipConfig().weights}:
            raise UserError(f'The CLIP "{architecture}" has weights of its own: leave out "{weights}".')
        return _with_own_weights(architecture)
    config = model_config_of(architecture)
    if weights is None:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UserError(f'No weights are given for CLIP "{architecture}".{closest("", tags)} {_WAY_OUT}')
    if (seed := _random_seed(weights)) is not None:
        model = build_model(config, seed=seed)
        sha256 = hash_of_weights(model)
    else:
        model, sha256 = _loaded_model(config, _weights_file(architecture, weights, config))
    settings = open_clip.get_pretrained_cfg(architecture, weights)
    return _finish(model, sha256, architecture, weights, config, tokenizer_for(config), preprocessing=settings)


def split_clip_name(name: str, default: str | None = None) -> tuple[str, str | None]:
    """Split "ViT-B-16:openai" into architecture and weights; `bundled`, hf-hub and local-dir have their own weights."""
    if name == BUNDLED or name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    architecture, _, weights = name.partition(":")
    return architecture, weights or default


def model_config_of(architecture: str) -> dict[str, Any]:
    """Read open_clip's constructor settings, without the weights, of any name that `load_clip` takes."""
    if (file := _config_file(architecture)) is not None:
        return _read_config(file)[0]
    config = open_clip.get_model_config(architecture)
    if config is None:
        known = closest(architecture, [BUNDLED, *open_clip.list_models()])
        raise UserError(f'open_clip knows no architecture "{architecture}".{known}')
    return dict(config)


def blocks_of(architecture: str) -> int:
    """Blocks of a CLIP's image tower, read without its weights; a `UserError` where it is no transformer."""
    blocks = model_config_of(architecture)["vision_cfg"].get("layers", 12)
    if not isinstance(blocks, int):
        raise UserError(f'The image tower of "{architecture}" is no vision transformer: choose a ViT.')
    return blocks


def tokenizer_for(model_config: Mapping[str, Any], vocabulary: Path | None = None) -> Callable[[list[str]], Tensor]:
    """Make the tokenizer of a model: CLIP's, one with its own merges file, or the Hugging Face one it names.

    Raises UserError where the latter cannot be loaded.
    """
    text: Mapping[str, Any] = model_config.get("text_cfg") or NO_TEXT_TOWER
    context, name = int(text.get("context_length", 77)), text.get("hf_tokenizer_name")
    if not name or vocabulary is not None:
        own = {"bpe_path": str(vocabulary)} if vocabulary is not None else text.get("tokenizer_kwargs")
        # open_clip has read CLIP's vocabulary already, which takes a tenth of a second.
        tokenizer = open_clip.SimpleTokenizer(**own) if own else copy(open_clip.tokenizer._tokenizer)
        tokenizer.context_length = context
        return tokenizer
    try:
        with hub_or_cache():
            return open_clip.tokenizer.HFTokenizer(name, context_length=context)
    except Exception as error:
        raise UserError(f'The tokenizer "{name}" of this CLIP cannot be loaded ({first_line(error)}).') from error


def _loaded_model(config: Mapping[str, Any], file: Path) -> tuple[nn.Module, str]:
    """A model with every weight from a file, and its hash.

    The file holds safetensors, a PyTorch state dict, or OpenAI's TorchScript archive.
    """
    known = KnownWeights(file, config)
    # Drawing weights first would take longer than reading them.
    model = build_model(config, empty=True)
    fill_empty(model)
    archive = _is_torchscript(file)
    if archive and not config.get("quick_gelu"):
        raise UserError(
            f'"{file}" is an archive of OpenAI, whose models use QuickGELU: choose the architecture whose name'
            ' ends in "-quickgelu", for example ViT-B-16-quickgelu.'
        )
    try:
        if archive:
            state = torch.jit.load(str(file), map_location="cpu").state_dict()
            for scalar in ("input_resolution", "context_length", "vocab_size"):
                state.pop(scalar, None)
            if not hasattr(model, "positional_embedding"):
                state = open_clip.model.convert_to_custom_text_state_dict(state)
            model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        else:
            open_clip.load_checkpoint(model, str(file))
    except Exception as error:
        reason = " ".join(str(error).split())[:400]
        raise UserError(f'The CLIP weights in "{file}" cannot be used: {reason}') from error
    if (sha256 := known.sha256()) is None:
        check_weights(model.state_dict(), f'"{file}"')
        known.remember(sha256 := hash_of_weights(model))
    return model, sha256


def hash_of_weights(model: nn.Module) -> str:
    """Hash both towers' tensors, by name and as float32, so that half and full precision files of one CLIP agree."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name in {"logit_scale", "logit_bias"} or name.endswith("attn_mask"):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().cpu().numpy())
    return digest.hexdigest()


def from_parts(
    architecture: str,
    weights: str | None,
    model_config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    vocabulary: Path | None = None,
    sha256: str | None = None,
) -> Clip:
    """Make a CLIP from tensors in memory, a checkpoint's own copy or an import, under the names given.

    Without a `text_cfg` in open_clip's settings there is no text tower. The state has open_clip's names; `logit_scale`
    may be missing. `vocabulary` is the tokenizer's merges file; None: CLIP's. `sha256` is the hash of the weights;
    None: it is computed. Raises UserError where tensors are missing, unexpected or misshapen.
    """
    has_text = bool(model_config.get("text_cfg"))
    # The small tower that stands in for a missing one keeps its drawn weights: they are part of the hash.
    model = build_model(model_config, empty=has_text)
    own = {name for name in model.state_dict() if has_text or name.startswith("visual.")}
    optional = {"logit_scale", "logit_bias"}
    missing, unexpected = sorted(own - set(state) - optional), sorted(set(state) - own)
    if missing or unexpected:
        raise UserError(f"The CLIP tensors do not fit: missing {missing[:5]}, unexpected {unexpected[:5]}.")
    try:
        # Taken over as they are: copies would take the memory twice.
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False, assign=has_text)
    except RuntimeError as error:
        raise UserError(f"The CLIP tensors do not fit: {' '.join(str(error).split())[:400]}") from error
    fill_empty(model)
    if "logit_scale" not in state:
        nn.init.constant_(model.get_parameter("logit_scale"), LOGIT_SCALE)
    tokenizer = tokenizer_for(model_config, vocabulary) if has_text else None
    return _finish(
        model, sha256 or hash_of_weights(model), architecture, weights, dict(model_config), tokenizer, vocabulary
    )


def _finish(
    model: nn.Module,
    sha256: str,
    architecture: str,
    weights: str | None,
    config: dict[str, Any],
    tokenizer: Callable[[list[str]], Tensor] | None,
    vocabulary: Path | None = None,
    preprocessing: Mapping[str, Any] = MappingProxyType({}),
) -> Clip:
    """A CLIP with the mean and standard deviation of its preprocessing, which are fractions of 255 there."""
    identity = ClipIdentity(architecture, weights, config, sha256, has_text=tokenizer is not None)
    mean, std = (preprocessing.get(name) for name in ("mean", "std"))
    return Clip(
        model.eval().requires_grad_(False),
        tokenizer,
        identity,
        vocabulary,
        mean=_pixel(mean) if mean else CLIP_MEAN,
        std=_pixel(std) if std else CLIP_STD,
    )


def _config_file(architecture: str) -> Path | None:
    """The JSON file with a CLIP's settings, downloaded from the Hub where it lies there; None: a name of open_clip."""
    if architecture == BUNDLED:
        return Path(str(resources.files("cascade_clip") / "bundled" / "clip" / CONFIG_FILE))
    if architecture.startswith("local-dir:"):
        return Path(architecture.removeprefix("local-dir:"), CONFIG_FILE)
    if architecture.startswith("hf-hub:"):
        return _hub_file(architecture, CONFIG_FILE)
    return Path(architecture) if architecture.endswith(".json") else None


def _with_own_weights(architecture: str) -> Clip:
    """A CLIP whose weights, and perhaps vocabulary, lie beside its settings."""
    settings = _config_file(architecture) or Path()
    config, preprocessing = _read_config(settings)
    if architecture.startswith("hf-hub:"):
        file, vocabulary = _hub_file(architecture), None
    else:
        file = open_clip.factory._find_checkpoint_in_dir(settings.parent)
        vocabulary = settings.with_name(VOCABULARY_FILE) if settings.with_name(VOCABULARY_FILE).exists() else None
    if file is None:
        raise UserError(f'The folder "{settings.parent}" holds no CLIP weights (expected open_clip_model.safetensors).')
    tokenizer = tokenizer_for(config, vocabulary)
    model, sha256 = _loaded_model(config, Path(file))
    return _finish(model, sha256, architecture, None, config, tokenizer, vocabulary, preprocessing)


def _hub_file(architecture: str, name: str | None = None) -> Path:
    """Fetch a file of `hf-hub:ORG/NAME`, unless the cache has it; None: the weights."""
    try:
        repository = architecture.removeprefix("hf-hub:")
        with hub_or_cache():
            return Path(open_clip.pretrained.download_pretrained_from_hf(repository, filename=name))
    except Exception as error:
        raise UserError(f'"{architecture}" could not be fetched ({first_line(error)}). {_WAY_OUT}') from error


def _weights_file(architecture: str, weights: str, config: Mapping[str, Any]) -> Path:
    """Find the file behind a pretrained tag or path."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights not in tags:
        file = usable_path(weights, "The CLIP weights")
        if not file.is_file():
            known = closest(weights, tags)
            raise UserError(f'"{weights}" is neither a file nor a pretrained tag of "{architecture}".{known}')
        return file
    tag = open_clip.get_pretrained_cfg(architecture, weights)
    if bool(tag.get("quick_gelu")) != bool(config.get("quick_gelu")):
        how = "with" if tag.get("quick_gelu") else "without"
        raise UserError(
            f'The weights "{weights}" were trained {how} QuickGELU, but "{architecture}" computes the other activation:'
            f' choose the name {how} the ending "-quickgelu".'
        )
    log.info('Looking for the weights "%s" of %s; they are downloaded on first use.', weights, architecture)
    try:
        with hub_or_cache():
            return Path(open_clip.download_pretrained(tag))
    except Exception as error:
        raise UserError(
            f'The weights "{weights}" of "{architecture}" could not be downloaded ({first_line(error)}). {_WAY_OUT}'
        ) from error


def _read_config(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constructor and preprocessing settings of an open_clip JSON file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise_refusal(error, f'The CLIP "{file}"')
        raise UserError(f'There is no CLIP at "{file}": the file cannot be read ({error.strerror}).') from error
    except ValueError as error:
        raise UserError(f'"{file}" is not valid JSON: {error}.') from error
    config = content.get("model_cfg", content) if isinstance(content, dict) else {}
    if "vision_cfg" not in config or "embed_dim" not in config:
        raise UserError(f'"{file}" is no open_clip model configuration: "embed_dim" and "vision_cfg" are expected.')
    return dict(config), dict(content.get("preprocess_cfg") or {})


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def _random_seed(weights: str) -> int | None:
    """Seed of "random" or "random:SEED"; None: other weights."""
    kind, _, seed = weights.partition(":")
    if kind != RANDOM:
        return None
    if seed and not seed.isdigit():
        raise UserError(f'"{weights}" names no seed: random weights are asked for as "random" or "random:7".')
    log.warning("CLIP has random weights (%s): good for tests and timing, not for segmentation.", weights)
    return int(seed or 0)
