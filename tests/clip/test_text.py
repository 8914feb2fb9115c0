"""Text embeddings equal open_clip's text tower; vocabularies are checked; the cache only saves time."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.clip.load import Clip
from cascade_clip.clip.templates import MULTI, SINGLE, templates_of
from cascade_clip.clip.text import class_synonyms, embed_classes
from cascade_clip.clip.text_cache import TextCache
from cascade_clip.errors import UserError


@torch.no_grad()
def test_fifteen_sentences_as_open_clip_averages_them(tiny_clip: Clip) -> None:
    """open_clip's own zero-shot classifier: normalise, mean, normalise."""
    reference = open_clip.build_zero_shot_classifier(
        tiny_clip.model, tiny_clip.tokenize, ["road", "tree"], [lambda name, t=t: t.format(name) for t in MULTI]
    )
    ours = embed_classes(tiny_clip, ["road", "tree"], MULTI, half=False)
    torch.testing.assert_close(ours, reference.T, rtol=0, atol=2e-6)


@torch.no_grad()
def test_one_sentence_equals_the_text_tower(tiny_clip: Clip) -> None:
    tokens = tiny_clip.tokenize(["a photo of a road"])
    expected = F.normalize(tiny_clip.model.encode_text(tokens), dim=-1)
    torch.testing.assert_close(embed_classes(tiny_clip, ["road"], SINGLE, half=False), expected, rtol=0, atol=1e-6)


def test_half_rounds_as_the_released_files(tiny_clip: Clip) -> None:
    exact = embed_classes(tiny_clip, ["road", "tree"], SINGLE, half=False)
    assert torch.equal(embed_classes(tiny_clip, ["road", "tree"], SINGLE), exact.half().float())


def test_synonyms_are_averaged(tiny_clip: Clip) -> None:
    apart = embed_classes(tiny_clip, ["sofa", "couch"], SINGLE, half=False)
    together = embed_classes(tiny_clip, ["sofa | couch"], SINGLE, half=False)
    torch.testing.assert_close(together[0], F.normalize(apart.mean(0), dim=-1), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "No classes are given"),
        (["road", " "], 'Class 2 (" ") is empty'),
        (["sofa|"], 'Class 1 ("sofa|") is empty or has an empty synonym'),
        (["road", "tree", "Road"], '"road" is given twice, in "road" and in "Road"'),
        (["sofa|couch", "couch"], '"couch" is given twice'),
    ],
)
def test_vocabularies_that_are_refused(classes: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        class_synonyms(classes)
    assert message in str(caught.value)


def test_more_words_than_the_context_holds(tiny_clip: Clip) -> None:
    with pytest.raises(UserError, match=r"is 36 tokens long with its start and end; this CLIP reads 24: shorten"):
        embed_classes(tiny_clip, ["very " * 29 + "long"], SINGLE)


def test_cache(tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TextCache(tmp_path)
    first = embed_classes(tiny_clip, ["road"], SINGLE, cache=cache)
    with monkeypatch.context() as patched:
        patched.setattr(tiny_clip.model, "encode_text", None)
        assert torch.equal(embed_classes(tiny_clip, ["road"], SINGLE, cache=cache), first)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"damaged")
    assert torch.equal(embed_classes(tiny_clip, ["road"], SINGLE, cache=cache), first)
    assert not torch.equal(embed_classes(tiny_clip, ["road"], MULTI, cache=cache), first)


def test_a_cache_that_cannot_be_written_costs_only_time(tiny_clip: Clip, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert embed_classes(tiny_clip, ["road"], SINGLE, cache=TextCache(blocked / "text")).shape == (1, 32)


def test_template_sets(tmp_path: Path) -> None:
    assert len(templates_of("single")) == 1
    assert len(templates_of("multi")) == 15
    assert len(templates_of("imagenet")) == 80
    assert all(sentence.count("{}") == 1 for name in ("single", "multi", "imagenet") for sentence in templates_of(name))
    own = tmp_path / "own.txt"
    own.write_text("a drawing of a {}\n\nmy {}\n")
    assert templates_of(str(own)) == ("a drawing of a {}", "my {}")
    own.write_text("a drawing")
    with pytest.raises(UserError, match=r'Line 1 of the template file .* needs exactly one \{\}: "a drawing"'):
        templates_of(str(own))
    with pytest.raises(UserError, match='Did you mean "multi"'):
        templates_of("mutli")
