"""The text tower and its tokenizer as files, so that any words are embedded without PyTorch."""

from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import Clip

TEXT_TOWER, TOKENIZER = "text.onnx", "tokenizer.json"
TOKENS, EMBEDDINGS = "tokens", "embeddings"
"""Names of the input and the output of the exported text tower."""
_SENTENCES = ("a photo of a road.", "There is the pottedplant in the scene.", "it's 42 Straßen, naïvely!", "木")
_TOLERANCE = 1e-5

# What CLIP's tokenizer takes for words.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def has_text_files(clip: Clip) -> bool:
    """Whether `write_text_files` can write this CLIP's text tower: a plain one with CLIP's kind of tokenizer."""
    return isinstance(clip.tokenize, SimpleTokenizer) and isinstance(clip.model, open_clip.CLIP)


def write_text_files(clip: Clip, folder: Path) -> None:
    """Write `text.onnx` and `tokenizer.json`; UserError where they differ from PyTorch on a few sentences.

    `text.onnx` takes `tokens` (S, L) int64 and gives `embeddings` (S, C) float32, unit vectors; `tokenizer.json` is for
    the package `tokenizers`, and pads every sentence to L.
    """
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = clip.tokenize
    if not (isinstance(tokenizer, SimpleTokenizer) and isinstance(clip.model, open_clip.CLIP)):
        raise AssertionError("has_text_files tells which CLIP has such a tokenizer and tower")
    (folder / TOKENIZER).write_text(tokenizer_json(tokenizer), encoding="utf-8")
    tokens = tokenizer(list(_SENTENCES))
    with torch.no_grad():
        torch.onnx.export(
            _SentenceEncoder(clip.model).eval(),
            (tokens,),
            folder / TEXT_TOWER,
            input_names=[TOKENS],
            output_names=[EMBEDDINGS],
            dynamic_shapes=({0: Dim("sentences", min=1)},),
            dynamo=True,
            verbose=False,
            external_data=False,
        )
        expected = _SentenceEncoder(clip.model)(tokens).numpy()
    written = Tokenizer.from_file(str(folder / TOKENIZER)).encode_batch(list(_SENTENCES))
    ids = np.array([one.ids for one in written], dtype=np.int64)
    session = onnxruntime.InferenceSession(str(folder / TEXT_TOWER), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {TOKENS: ids})
    if not np.array_equal(ids, tokens.numpy()) or np.abs(found - expected).max() > _TOLERANCE:
        raise UserError("The exported text tower does not give what PyTorch gives: use --no-text, and report this.")


class _SentenceEncoder(nn.Module):
    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.model.encode_text(tokens), dim=-1)


def tokenizer_json(tokenizer: SimpleTokenizer) -> str:
    """CLIP's tokenizer in the form of the package `tokenizers`, padded with 0 to its context length.

    It takes text as it is: open_clip also mends mangled encodings and HTML entities first, which plain words do not
    have.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    start, end = "<start_of_text>", "<end_of_text>"
    fast = Tokenizer(
        models.BPE(
            vocab=tokenizer.encoder,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    )
    fast.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([start, end])
    ids = {name: tokenizer.encoder[name] for name in (start, end)}
    fast.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=list(ids.items()))
    length = tokenizer.context_length
    fast.enable_truncation(length)
    fast.enable_padding(length=length, pad_id=0, pad_token="")
    return fast.to_str(pretty=False)
