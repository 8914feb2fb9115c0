"""The encoder equals open_clip's tower where nothing is added, takes any grid, and places prompts as specified."""

import copy

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError
from cascade_clip.model.clip import image_encoder
from cascade_clip.model.clip.image_encoder import ImageEncoder, embed_patches
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.model.clip.prompts import VisualPrompts


def _image(height: int = 64, width: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_equals_open_clip_without_additions(tiny_clip: Clip):
    """Class token and patch tokens of every block, with CLIP's own single class embedding, norm and projection.

    Block i of the paper is index i - 1 of open_clip.
    """
    visual = copy.deepcopy(tiny_clip.visual)
    torch.nn.init.normal_(visual.ln_post.bias)
    encoder = ImageEncoder(visual, taps=[1, 2, 3, 4], class_embeddings=1)
    for tap in encoder.tap_projections.values():
        tap.copy_from_clip(visual)
    features = encoder(_image())
    torch.testing.assert_close(features.class_token, F.normalize(visual(_image()), dim=-1), rtol=0, atol=2e-6)
    reference = visual.forward_intermediates(_image(), normalize_intermediates=True, output_fmt="NLC")
    for block, tokens in features.patch_tokens.items():
        expected = F.normalize(reference["image_intermediates"][block - 1] @ visual.proj, dim=-1)
        torch.testing.assert_close(tokens, expected, rtol=0, atol=2e-6)


@torch.no_grad()
def test_other_grids_as_open_clip_resizes_them(tiny_clip: Clip):
    """With the antialiased bicubic resize, another input size equals a tower whose table open_clip resized."""
    from open_clip.model import resize_pos_embed

    config = tiny_clip.identity.model_config
    larger = build_model({**config, "vision_cfg": {**config["vision_cfg"], "image_size": (96, 128)}})
    state = tiny_clip.model.state_dict()
    resize_pos_embed(state, larger)
    larger.load_state_dict(state)
    encoder = ImageEncoder(tiny_clip.visual, taps=[4], class_embeddings=1, position_resize="bicubic-antialias")
    features = encoder(_image(96, 128))
    assert features.grid == (6, 8)
    expected = F.normalize(larger.visual(_image(96, 128)), dim=-1)
    torch.testing.assert_close(features.class_token, expected, rtol=0, atol=2e-6)


def _whole_sequence(visual: VisionTransformer, prompts: VisualPrompts) -> list[torch.Tensor]:
    """What leaves each block where, as released, the prompts run through it as tokens and are then replaced."""
    tokens = embed_patches(visual, _image(), (4, 4), 2, "bilinear")
    outputs = []
    for index, block in enumerate(visual.transformer.resblocks):
        count = prompts.tokens if index < prompts.depth else 0
        fresh = [prompts(index, len(tokens))] if count else []
        sequence = block(torch.cat([tokens[:, :1], *fresh, tokens[:, 1:]], dim=1))
        tokens = torch.cat([sequence[:, :1], sequence[:, 1 + count :]], dim=1)
        outputs.append(tokens)
    return outputs


@pytest.mark.parametrize("plain_blocks", [True, False])
@pytest.mark.parametrize("depth", [1, 3, 4])
def test_prompts_of_any_depth(tiny_clip: Clip, depth: int, plain_blocks: bool, monkeypatch):
    """Values and gradients are those of the whole sequence; blocks beyond the prompts' depth see none."""
    if not plain_blocks:  # blocks of another class of open_clip take the whole sequence
        monkeypatch.setattr(image_encoder, "ResidualAttentionBlock", torch.nn.Linear)
    config = tiny_clip.identity.model_config
    visual = build_model({**config, "vision_cfg": {**config["vision_cfg"], "ls_init_value": 0.5}}, seed=1).visual
    prompts = VisualPrompts(5, depth, 48, 16, dropout=0.0)
    outputs: list[torch.Tensor] = []
    encoder = ImageEncoder(visual, taps=[2, 4], prompts=prompts, prompt_norm=True)
    features = encoder(_image(), outputs)
    reference = _whole_sequence(visual, prompts)
    for ours, released in zip(outputs, reference, strict=True):
        torch.testing.assert_close(ours, released, rtol=1e-5, atol=1e-5)
    assert {block: tuple(tokens.shape) for block, tokens in features.patch_tokens.items()} == {
        2: (2, 16, 32),
        4: (2, 16, 32),
    }
    gradients = [
        torch.autograd.grad(tokens.square().sum(), prompts.embeddings)[0] for tokens in (outputs[-1], reference[-1])
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert gradients[0].abs().sum() > 0


def test_dropout_masks_differ_between_images():
    drawn = VisualPrompts(4, 1, 16, 8, dropout=0.5).train()(0, 3)
    assert not torch.equal(drawn[0] == 0, drawn[1] == 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"taps": [0]}, "counted from 1; the stages name [0]"),
        ({"taps": [5]}, "This CLIP has 4 blocks"),
        ({"taps": [4], "prompts": VisualPrompts(1, 5, 48, 16)}, "prompts for 5 were asked for"),
    ],
)
def test_blocks_that_are_not_there(tiny_clip: Clip, given: dict, message: str):
    with pytest.raises(UserError) as caught:
        ImageEncoder(tiny_clip.visual, **given)
    assert message in str(caught.value)


def test_a_size_that_does_not_fit_says_which_does(tiny_clip: Clip):
    with pytest.raises(UserError, match="70 x 64 pixels does not fit patches of 16: pad or resize it to 80 x 64"):
        ImageEncoder(tiny_clip.visual, taps=[4])(_image(70, 64))
    with pytest.raises(UserError, match="pad or resize it to 64 x 16"):
        ImageEncoder(tiny_clip.visual, taps=[4])(_image(64, 0))
