"""What holds for every training-free method: on any grid, in any batch, for any vocabulary, on any fitting tower."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.last_block import run_to_last_block
from cascade_clip.model.mask_clip import with_exact_gelu
from cascade_clip.model.res_clip import feedback_attention
from cascade_clip.model.sc_clip import repair
from cascade_clip.model.training_free import METHODS, default_method

QUERIES = F.normalize(torch.randn(5, 24, generator=torch.Generator().manual_seed(1)), dim=-1)


@pytest.fixture(scope="module")
def tower() -> torch.nn.Module:
    """Twelve blocks on an 8 x 8 grid, of no other size than the golden CLIP has."""
    return tower_of(12)


def tower_of(blocks: int) -> torch.nn.Module:
    vision = {"image_size": 56, "layers": blocks, "width": 40, "head_width": 8, "patch_size": 7}
    return build_model({"embed_dim": 24, "quick_gelu": True, "vision_cfg": vision}, seed=2).visual


def images(*size: int, count: int = 1) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("size", [(56, 56), (42, 91), (59, 60)])
def test_attention_and_tail_of_clip_are_the_plain_tower(tower: torch.nn.Module, size: tuple[int, int]):
    method = METHODS["clip"]
    block = run_to_last_block(tower, images(*size), method.positions, method.reads)
    torch.testing.assert_close(method.patch_tokens(block), block.blocks[-1](block.tokens)[:, 1:])


@torch.no_grad()
def test_the_tower_up_to_the_last_block_is_open_clips_own(tower: torch.nn.Module):
    block = run_to_last_block(tower, images(56, 56), "bicubic", (3,))
    own = tower.transformer.forward_intermediates(tower._embeds(images(56, 56)))[1]
    torch.testing.assert_close(block.tokens, own[10])
    torch.testing.assert_close(block.inputs[3], own[2])
    torch.testing.assert_close(block.project(block.blocks[-1](block.tokens)[:, 0]), tower(images(56, 56)))


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_images_of_a_batch_are_those_alone(tower: torch.nn.Module, name: str):
    network, both = DenseNetwork(tower, METHODS[name]), images(42, 63, count=2)
    together = network.cosines(both, QUERIES)
    alone = torch.cat([network.cosines(image[None], QUERIES) for image in both])
    torch.testing.assert_close(together, alone, rtol=0, atol=5e-6)
    assert torch.equal(network.cosines(network.encode(both), QUERIES), together)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.scores is None])
def test_scores_of_a_query_do_not_depend_on_the_others(tower: torch.nn.Module, name: str):
    encoded = DenseNetwork(tower, METHODS[name]).encode(images(49, 70))
    network = DenseNetwork(tower, METHODS[name])
    torch.testing.assert_close(network.cosines(encoded, QUERIES)[:, 2:4], network.cosines(encoded, QUERIES[2:4]))


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(35, 49), (61, 80), (7, 300)])
def test_any_grid(tower: torch.nn.Module, name: str, size: tuple[int, int]):
    method = METHODS[name]
    scores = DenseNetwork(tower, method).cosines(images(*size), QUERIES)
    rounded = [-(-side // 7) if method.pads else side // 7 for side in size]
    assert scores.shape == (1, 5, *rounded)
    assert bool(scores.isfinite().all())


@torch.no_grad()
@pytest.mark.parametrize("blocks", [6, 10, 11, 14])
def test_methods_run_on_towers_of_their_depth_and_refuse_others(blocks: int):
    shallow = tower_of(blocks)
    for method in METHODS.values():
        if blocks >= method.blocks:
            assert bool(DenseNetwork(shallow, method).cosines(images(42, 42), QUERIES).isfinite().all())
        else:
            with pytest.raises(
                UserError, match=f"needs a CLIP of at least {method.blocks} blocks; this one has {blocks}"
            ):
                DenseNetwork(shallow, method)
    assert {METHODS[name].blocks for name in ("scclip", "resclip", "gem", "naclip")} == {11, 10, 6, 1}


def test_blocks_of_another_kind_are_refused():
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16, "qk_norm": True}
    custom = build_model({"embed_dim": 8, "vision_cfg": {**vision, "block_type": "custom"}}).visual
    with pytest.raises(UserError, match="custom ones, whose attention cannot be changed"):
        DenseNetwork(custom, METHODS["naclip"])


@pytest.mark.parametrize(
    ("blocks", "patches", "name"),
    [(12, 31, "scclip"), (12, 196, "scclip"), (12, 30, "naclip"), (11, 196, "naclip"), (24, 196, "naclip")],
)
def test_the_default_is_scclip_where_its_indices_fit(blocks: int, patches: int, name: str):
    assert default_method(tower_of(blocks), patches).name == name


@pytest.mark.parametrize(("name", "size"), [("scclip", (42, 35)), ("naclip", (6, 40)), ("clip", (40, 6))])
def test_too_few_patches_are_refused(tower: torch.nn.Module, name: str, size: tuple[int, int]):
    network = DenseNetwork(tower, METHODS[name])
    with pytest.raises(
        UserError, match=f"An image of {size[0]} x {size[1]} pixels holds {size[0] // 7 * (size[1] // 7)}"
    ):
        network.encode(images(*size))


@torch.no_grad()
def test_the_exact_activation_shares_weights_and_leaves_the_tower_as_it_is(tower: torch.nn.Module):
    before = tower(images(56, 56))
    changed = with_exact_gelu(tower)
    pairs = zip(tower.parameters(), changed.parameters(), strict=True)
    assert all(ours is theirs for ours, theirs in pairs)
    assert changed.transformer.resblocks[0].ln_1.eps == changed.ln_post.eps == 1e-6
    assert not torch.allclose(changed(images(56, 56)), before, atol=1e-4)
    assert torch.equal(tower(images(56, 56)), before)


@torch.no_grad()
def test_value_path_is_attention_of_each_token_to_itself(tiny_clip: Clip):
    method = METHODS["value"]
    block = run_to_last_block(tiny_clip.visual, images(64, 64), method.positions, method.reads)
    last = block.blocks[-1]
    alone = last.ln_1(block.tokens).transpose(0, 1)  # sequences of one token
    expected = last.attn(alone, alone, alone, need_weights=False)[0].transpose(0, 1)[:, 1:]
    torch.testing.assert_close(method.patch_tokens(block), expected)


def test_outliers_take_the_mean_of_their_sound_neighbours():
    values = torch.arange(12.0).reshape(1, 12, 1)
    lost = torch.zeros(1, 12, dtype=torch.bool)
    lost[0, [0, 5]] = True  # row 0, column 0 and row 1, column 1 of 3 x 4
    mended = repair(values, lost, (3, 4)).flatten().tolist()
    assert mended[0] == pytest.approx((1 + 4) / 2)
    assert mended[5] == pytest.approx((1 + 2 + 4 + 6 + 8 + 9 + 10) / 7)
    assert [mended[i] for i in (1, 4, 6, 11)] == [1, 4, 6, 11]
    assert torch.equal(repair(values, torch.ones_like(lost), (3, 4)), values)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].scores is None])
def test_nothing_is_made_on_another_device(tower: torch.nn.Module, name: str):
    """A tensor made without a device lies on the default one, here another than the images', as it is on a GPU."""
    network, image = DenseNetwork(tower, METHODS[name]), images(42, 63)
    expected = network.cosines(image, QUERIES)
    with torch.device("meta"):
        assert torch.equal(network.cosines(image, QUERIES), expected)


def test_nor_are_the_ways_between_patches():
    classes = torch.tensor([[0, 1, 0], [2, 0, 0]])
    expected = feedback_attention(classes, check_paths=True)
    with torch.device("meta"):
        assert torch.equal(feedback_attention(classes, check_paths=True), expected)
