"""Text embeddings equal open_clip's text tower; vocabularies are checked; the cache only saves time."""

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError
from cascade_clip.model.clip import text
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.model.clip.text import MULTI, SINGLE, TextCache, embed_words, templates_of


@torch.no_grad()
def test_padding_behind_the_longest_sentence_is_left_out(tiny_clip: Clip, monkeypatch):
    """Sentences of 3, 7 and 24 tokens, the last filling the context; alone the first needs 3."""
    tokens = tiny_clip.tokenize(["road", "a photo of a road", "very " * 20 + "long road"])
    expected = tiny_clip.model.encode_text(tokens)
    seen = []
    tower = tiny_clip.model.transformer
    real = type(tower).forward
    monkeypatch.setattr(
        type(tower), "forward", lambda self, x, **rest: seen.append(x.shape[1]) or real(self, x, **rest)
    )
    torch.testing.assert_close(text.encode_text(tiny_clip.model, tokens), expected, rtol=0, atol=1e-6)
    for row, length in enumerate([3, 7, 24]):
        alone = text.encode_text(tiny_clip.model, tokens[row : row + 1])
        torch.testing.assert_close(alone, expected[row : row + 1], rtol=0, atol=1e-6)
        assert seen[-1] == length
    assert seen[0] == 24


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"proj_bias": True},
        {"proj_type": "none"},
        {"pool_type": "last"},
        {"no_causal_mask": True},
        {"custom_text": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_text_towers_of_other_kinds(tiny_clip: Clip, changes: dict[str, object]):
    config = dict(tiny_clip.identity.model_config)
    custom = {"custom_text": True} if changes.pop("custom_text", False) else {}
    model = build_model({**config, **custom, "text_cfg": {**config["text_cfg"], **changes}}, seed=1)
    tokens = tiny_clip.tokenize(["road", "a photo of a road"])
    torch.testing.assert_close(text.encode_text(model, tokens), model.encode_text(tokens), rtol=0, atol=1e-6)


def test_synonyms_are_averaged(tiny_clip: Clip):
    apart = embed_words(tiny_clip, [["sofa"], ["couch"]], SINGLE, half=False)
    together = embed_words(tiny_clip, [["sofa", "couch"]], SINGLE, half=False)
    torch.testing.assert_close(together[0], F.normalize(apart.mean(0), dim=-1), rtol=0, atol=2e-6)
    assert torch.equal(embed_words(tiny_clip, [["sofa", "couch"]], SINGLE), together.half().float())


def test_more_words_than_the_context_holds(tiny_clip: Clip):
    with pytest.raises(UserError, match=r"is 36 tokens long with its start and end; this CLIP reads 24: shorten"):
        embed_words(tiny_clip, [["very " * 29 + "long"]], SINGLE)
    assert embed_words(tiny_clip, [["very " * 20 + "long road"]], ["{}"]).shape == (1, 32)  # 24 tokens


def test_cache(tiny_clip: Clip, tmp_path, monkeypatch):
    cache = TextCache(tmp_path)
    first = embed_words(tiny_clip, [["road"]], SINGLE, cache=cache)
    with monkeypatch.context() as patched:
        patched.setattr(text, "encode_text", None)
        assert torch.equal(embed_words(tiny_clip, [["road"]], SINGLE, cache=cache), first)
        assert torch.equal(embed_words(tiny_clip, [["road"]], SINGLE, cache=TextCache(tmp_path)), first)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"damaged")
    assert torch.equal(embed_words(tiny_clip, [["road"]], SINGLE, cache=TextCache(tmp_path)), first)
    assert not torch.equal(embed_words(tiny_clip, [["road"]], MULTI, cache=cache), first)
    another = replace(tiny_clip, model=copy.deepcopy(tiny_clip.model), identity=replace(tiny_clip.identity, sha256="0"))
    torch.nn.init.normal_(another.model.text_projection)
    assert not torch.equal(embed_words(another, [["road"]], SINGLE, cache=cache), first)


def test_a_cache_that_cannot_be_written_still_embeds_once(tiny_clip: Clip, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = TextCache(blocked / "text")
    first = embed_words(tiny_clip, [["road"]], SINGLE, cache=cache)
    monkeypatch.setattr(text, "encode_text", None)
    assert torch.equal(embed_words(tiny_clip, [["road"]], SINGLE, cache=cache), first)


def test_template_sets(tmp_path):
    assert len(templates_of("single")) == 1
    assert len(templates_of("multi")) == 15
    assert templates_of("gem") == ("a photo of a {}.",)
    assert len(templates_of("imagenet")) == 80
    assert all(sentence.count("{}") == 1 for name in ("single", "multi", "imagenet") for sentence in templates_of(name))
    own = tmp_path / "own.txt"
    own.write_text("a drawing of a {}\n\nmy {}\n")
    assert templates_of(str(own)) == ("a drawing of a {}", "my {}")
    own.write_text("\ufeffmy {}\n", encoding="utf-8")
    assert templates_of(str(own)) == ("my {}",)
    for wrong in ("a drawing", "a {} {}"):
        own.write_text(wrong)
        with pytest.raises(
            UserError, match=r"Line 1 of the template file .* needs exactly one \{\}: \"" + re.escape(wrong)
        ):
            templates_of(str(own))
    own.write_text("\n")
    with pytest.raises(UserError, match=r"is empty: a sentence with \{\} a line is expected"):
        templates_of(str(own))
    with pytest.raises(UserError, match='Did you mean "multi"'):
        templates_of("mutli")
    own.write_bytes("a photo of a {}".encode("utf-16"))
    with pytest.raises(UserError, match="cannot be read as text: 'utf-8' codec"):
        templates_of(str(own))


def test_a_cache_of_other_classes_or_nan_is_ignored(tmp_path, caplog):
    cache, key = TextCache(tmp_path), ("clip", ("{}",), (("road",), ("tree",)))
    for wrong in (torch.ones(3, 4), torch.full((2, 4), torch.nan)):
        cache.put(key, wrong)
        assert TextCache(tmp_path).get(key) is None
        assert "it holds no embeddings of these classes" in caplog.text
    cache.put(key, torch.ones(2, 4))
    assert TextCache(tmp_path).get(key) is not None
