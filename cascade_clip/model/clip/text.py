"""Text embeddings of class names: names × templates -> unit vectors, computed once per vocabulary."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError, closest, reason_of
from cascade_clip.files import cache_folder, usable_path, write_files
from cascade_clip.model.clip.load import Clip

log = logging.getLogger(__name__)

SENTENCES_AT_ONCE = 256
"""Most sentences in a forward pass of the text tower."""
MOST_IN_MEMORY = 16
"""Vocabularies that are kept in memory, the latest ones."""

Key = tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]


class TextCache:
    """A folder of embeddings, one file a vocabulary. A file that cannot be read or written is computed anew instead."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` None: `text` in `cascade_clip.files.cache_folder`."""
        self.folder = folder or cache_folder() / "text"
        self._latest: dict[Key, Tensor] = {}

    def get(self, key: Key) -> Tensor | None:
        """Embeddings (K, C) float32 of a vocabulary (CLIP hash, templates, words of each class); None: not cached."""
        if key in self._latest:
            return self._latest[key]
        file = self._file(key)
        try:
            return self._remember(key, _checked(load_file(file)["text"], key)) if file.exists() else None
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            log.warning("Ignoring the unreadable text cache %s: %s", file, error)
            return None

    def put(self, key: Key, text: Tensor) -> None:
        """Keep embeddings (K, C) float32; a full or read-only disk only costs the next start its time."""
        self._remember(key, text)
        try:
            write_files({self._file(key): save({"text": text.contiguous()})})
        except OSError as error:
            log.warning("Text embeddings are not cached: %s", error)

    def _remember(self, key: Key, text: Tensor) -> Tensor:
        self._latest[key] = text
        if len(self._latest) > MOST_IN_MEMORY:
            del self._latest[next(iter(self._latest))]
        return text

    def _file(self, key: Key) -> Path:
        digest = hashlib.sha256(json.dumps(key, ensure_ascii=False).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.safetensors"


def _checked(text: Tensor, key: Key) -> Tensor:
    if text.ndim != 2 or len(text) != len(key[-1]) or not text.isfinite().all():
        raise ValueError("it holds no embeddings of these classes")
    return text


def embed_words(
    clip: Clip,
    words: Sequence[Sequence[str]],
    templates: Sequence[str],
    *,
    half: bool = True,
    cache: TextCache | None = None,
) -> Tensor:
    """Embed K groups of words with the frozen text tower (SPEC section 2); words may repeat.

    Each sentence's embedding is normalised, the mean over the templates and words of a group normalised again. `half`
    rounds to float16, as the released embedding files are; `cache` holds embeddings of earlier vocabularies.

    Returns (K, C) float32 on the CPU, unit vectors (up to rounding where `half`). Raises UserError for a CLIP without
    text tower, or more words than fit.
    """
    key = (clip.identity.sha256, tuple(templates), tuple(tuple(synonyms) for synonyms in words))
    text = cache.get(key) if cache else None
    if text is None:
        text = torch.stack([_embed_class(clip, synonyms, templates) for synonyms in words])
        if cache:
            cache.put(key, text)
    return text.half().float() if half else text


@torch.no_grad()
def embed_sentences(model: nn.Module, tokens: Tensor) -> Tensor:
    """Embed sentences that mean one class: each normalised, their mean normalised again (SPEC section 2).

    Takes open_clip's model with its text tower and tokens (S, L) int64, S at least 1; gives (C,) float32 on the CPU.
    """
    device = next(model.parameters()).device
    parts = (encode_text(model, part.to(device)).float() for part in tokens.split(SENTENCES_AT_ONCE))
    units = torch.cat([F.normalize(part, dim=-1) for part in parts])
    mean = F.normalize(units.mean(dim=0), dim=-1) if len(units) > 1 else units[0]
    return mean.cpu()


def encode_text(model: nn.Module, tokens: Tensor) -> Tensor:
    """Embed sentences (S, L) int64 to (S, C), not normalised, as open_clip does, but without their common padding.

    A causal tower reads the embedding off a sentence's end, which sees nothing behind it: of CLIP's 77 tokens "a photo
    of a road" needs 7.
    """
    if not (isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"):
        encode: Callable[[Tensor], Tensor] = getattr(model, "encode_text")  # noqa: B009  (typed as a Tensor)
        return encode(tokens)
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    embedded = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    seen = model.transformer(embedded, attn_mask=model.attn_mask[:length, :length])
    pooled: Tensor = model.ln_final(seen[torch.arange(len(ends), device=ends.device), ends])
    if isinstance(model.text_projection, nn.Linear):
        return F.linear(pooled, model.text_projection.weight, model.text_projection.bias)
    return pooled if model.text_projection is None else pooled @ model.text_projection


def _embed_class(clip: Clip, synonyms: Sequence[str], templates: Sequence[str]) -> Tensor:
    sentences = [template.replace("{}", word) for word in synonyms for template in templates]
    return embed_sentences(clip.model, _tokenize(clip, sentences))


def _tokenize(clip: Clip, sentences: list[str]) -> Tensor:
    """Token ids (len(sentences), context); sentences that do not fit are an error rather than cut."""
    if clip.tokenize is None and clip.identity.has_text:
        raise UserError("This model's text tower was released: load the model again to look for other classes.")
    if clip.tokenize is None:
        raise UserError(
            "This model has no text tower, so class names cannot be embedded: give text_embeddings=, or import the"
            " checkpoint with --text-from CLIP (for example --text-from ViT-B-16-quickgelu:openai)."
        )
    tokens = clip.tokenize(sentences)
    if (encode := getattr(clip.tokenize, "encode", None)) is not None:
        longest = max(sentences, key=lambda sentence: len(encode(sentence)))
        if (length := len(encode(longest)) + 2) > tokens.shape[1]:
            raise UserError(
                f'"{longest}" is {length} tokens long with its start and end; this CLIP reads {tokens.shape[1]}:'
                " shorten the class name."
            )
    vocabulary = clip.identity.model_config["text_cfg"].get("vocab_size", 49408)
    if int(tokens.max()) >= vocabulary:
        raise UserError(
            f"This CLIP's text tower knows {vocabulary} tokens, its tokenizer more: the tower was trained with another"
            " tokenizer. Give text_embeddings= instead of class names."
        )
    return tokens


SINGLE = ("a photo of a {}",)
"""One sentence, without a full stop, as released for VOC (SPEC section 2)."""

MULTI = (
    "a photo of a {}.",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "a {} in the scene.",
    "a photo of a {} in the scene.",
    "There is a {} in the scene.",
    "There is the {} in the scene.",
    "This is a {} in the scene.",
    "This is the {} in the scene.",
    "This is one {} in the scene.",
)
"""The 15 sentences released for COCO-Stuff and PASCAL Context (SPEC section 2)."""

SCENE = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""What MaskCLIP adds to the 80 sentences for ImageNet."""


def _imagenet() -> tuple[str, ...]:
    return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


TEMPLATE_SETS: dict[str, Callable[[], tuple[str, ...]]] = {
    "single": lambda: SINGLE,
    "multi": lambda: MULTI,
    "imagenet": _imagenet,
    "maskclip": lambda: (*_imagenet(), *SCENE),
    "gem": lambda: ("a photo of a {}.",),
}


def templates_of(name_or_file: str) -> tuple[str, ...]:
    """Look up a set of sentences, each with one {} where the class name goes.

    `single`, `multi`, `imagenet` (open_clip's 80), `maskclip` (85), `gem` (1), or a text file with a sentence a line.
    Raises UserError for no such set or file, or a line without exactly one {}.
    """
    if name_or_file in TEMPLATE_SETS:
        return TEMPLATE_SETS[name_or_file]()
    file = usable_path(name_or_file, "The templates")
    if not file.is_file():
        raise UserError(
            f'"{name_or_file}" is neither a set of text templates nor a file.{closest(name_or_file, TEMPLATE_SETS)}'
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'The template file "{file}" cannot be read as text: {reason_of(error)}.') from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if line.count("{}") != 1:
            raise UserError(f'Line {number} of the template file "{file}" needs exactly one {{}}: "{line}".')
    if not lines:
        raise UserError(f'The template file "{file}" is empty: a sentence with {{}} a line is expected.')
    return tuple(lines)
