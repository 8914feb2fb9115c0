"""Import of released checkpoints: pickles are not executed, every tensor is accounted for."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cascade_clip.checkpoint.upstream import ImportOptions, import_state_dict, recipe_of_import, save_import
from cascade_clip.checkpoint.upstream_file import read_state_dict
from cascade_clip.errors import UserError
from cascade_clip.segmenter import CascadeCLIP

HEADS = ImportOptions(vision_heads=4, text_heads=4, decoder_heads=4)


@pytest.fixture(scope="module")
def released(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "cascade_zegclip_tiny" / "weights.safetensors")


class _Program:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_pickled_code_does_not_run(released: dict[str, torch.Tensor], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"meta": {"iter": 3}, "state_dict": released, "optimizer": {"state": {}}}, "iter.pth")
    assert read_state_dict(Path("iter.pth")).keys() == released.keys()
    torch.save({"meta": _Program(), "state_dict": released}, "evil.pth")
    with pytest.raises(UserError, match=r"could run any program on loading.*--trust-pickle"):
        read_state_dict(Path("evil.pth"))
    assert not Path("executed").exists()
    assert read_state_dict(Path("evil.pth"), trust_pickle=True).keys() == released.keys()
    assert Path("executed").exists()


def test_architecture_is_read_from_the_tensors(released: dict[str, torch.Tensor]):
    imported = import_state_dict(released, HEADS)
    assert imported.config.stages == ((6, 7, 8), (9, 10, 11), (12,))
    assert (imported.config.prompts.tokens, imported.config.prompts.depth) == (5, 12)
    assert (imported.config.decoder.layers, imported.config.decoder.heads) == (3, 4)
    # 27 of self-attention and norm1 a decoder layer, the last layer's other parts, and the loss's unused buffer
    assert len(imported.dropped) == 3 * (3 * 6 + 12) + 1
    assert imported.dropped_numbers == sum(released[name].numel() for name in imported.dropped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.conv1.weight": torch.tensor(1.0)}, "backbone.conv1.weight: (), 4 axes expected"),
        ({"backbone.positional_embedding": torch.zeros(16, 48)}, "16 position embeddings: one and a square number"),
        ({"backbone.deep_prompt_embeddings": torch.ones(11, 5, 47)}, "visual prompts do not belong together"),
        ({"decode_head.weights_s1": torch.tensor(1.0)}, "decode_head.weights_s1: (), 1 axis expected"),
        ({"decode_head.cascade_decoders.0.layers.0.linear1.weight": torch.ones(3, 32)}, "(3, 32)"),
        ({"backbone.transformer.resblocks.99999999999.ln_1.bias": torch.ones(48)}, "1 missing (backbone.transformer"),
        ({"backbone.proj": torch.full((48, 32), torch.nan)}, "holds NaN or infinite values in backbone.proj"),
        (
            {"decode_head.decoder_1.layers.0.hlfs.h_qkv.weight": torch.ones(7, 32)},
            "three times the joint dimension and decode_head.decoder_1.layers.0.hlfs.h_qkv.weight (96, 7)",
        ),
        ({"decode_head.q_projs.1.weight": None}, "1 missing (head.text_projections.1.weight)"),
        ({"decode_head.extra.weight": torch.ones(1)}, "1 unexpected (decode_head.extra.weight)"),
        ({"decode_head.weights_s9": torch.ones(2)}, "The file projects 6 tapped blocks, but the stages"),
        (
            {"backbone.prompt_norm.bias": torch.ones(7)},
            "1 misshapen (encoder.prompt_norm.bias: (7,) given, (48,) expected)",
        ),
        ({"backbone.ln_pre.weight": None}, "missing ['visual.ln_pre.weight']"),
        ({"decode_head.decoder_1.layers.2.hlfs.prompt": None}, "1 missing (head.decoders.0.mask.gate)"),
        ({"decode_head.decoder_1.layers.0.hlfs.x": torch.ones(1)}, "unexpected (decode_head.decoder_1.layers.0.hlfs"),
    ],
)
def test_mismatches_are_listed(
    released: dict[str, torch.Tensor], spt: dict[str, torch.Tensor], change: dict, message: str
):
    of_spt = "complex_weight" in str(change) or "hlfs" in str(change)
    state = {k: tensor for k, tensor in {**(spt if of_spt else released), **change}.items() if tensor is not None}
    with pytest.raises(UserError) as caught:
        import_state_dict(state, HEADS)
    assert message in str(caught.value)


def test_heads_that_cannot_be_told(released: dict[str, torch.Tensor]):
    with pytest.raises(UserError, match=r"joint dimension is 32, no multiple of 64.*--decoder-heads N"):
        import_state_dict(released)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vision_heads": 7}, "--vision-heads 7 does not divide the image tower's width, which is 48."),
        ({"text_heads": 10**9}, "--text-heads 1000000000 does not divide the text tower's width"),
        ({"decoder_heads": 0}, "--decoder-heads 0 does not divide the joint dimension, which is 32."),
        ({"stages": ((6, 7, 8), (6, 7, 8), (12,))}, "name a block twice"),
    ],
)
def test_options_that_do_not_fit(released: dict[str, torch.Tensor], options: dict, message: str):
    with pytest.raises(UserError) as caught:
        import_state_dict(released, dataclasses.replace(HEADS, **options))
    assert message in str(caught.value)


def test_without_text_tower(released: dict[str, torch.Tensor], golden: Path, tmp_path, tiny_clip_file: Path):
    """Works with embeddings that the caller gives; asked for names, it says what is missing."""
    state = {name: tensor for name, tensor in released.items() if not name.startswith("text_encoder.")}
    save_import(import_state_dict(state, HEADS), recipe_of_import("x", None), tmp_path / "x")
    model = CascadeCLIP.from_pretrained(tmp_path / "x")
    io = load_file(golden / "cascade_zegclip_tiny" / "io.safetensors")
    with torch.no_grad():
        logits = model.network(io["image"], io["text_features_f16"].float())
    full = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(full, io["pred_masks"], rtol=0, atol=5e-5)
    with pytest.raises(UserError, match=r"no text tower.*--text-from CLIP"):
        model.embed(["road"])
    options = ImportOptions(vision_heads=4, decoder_heads=4, text_from=f"{tiny_clip_file}:random:3")
    assert import_state_dict(state, options).clip.identity.has_text


def test_licence_and_settings(released: dict[str, torch.Tensor], tmp_path):
    recipe = recipe_of_import("voc", "voc-seen", self_trained=True)
    assert (recipe.text.templates, recipe.inference.seen_bias) == ("single", 0.0)
    assert recipe_of_import("coco", "coco-seen").text.templates == "multi"
    save_import(import_state_dict(released, HEADS), recipe, tmp_path / "voc")
    loaded = CascadeCLIP.from_pretrained(tmp_path / "voc")
    assert loaded.licence == "cc-by-nc-4.0"
    assert loaded.split is not None
    assert len(loaded.split.unseen) == 5
    with pytest.raises(UserError, match="knows 100 tokens, its tokenizer more"):
        loaded.embed(["road"])


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_state_dict(tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="is no readable PyTorch checkpoint"):
        read_state_dict(tmp_path / "x.pth")
    torch.save({"weights": torch.zeros(1000)}, tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content[:2000] + b"1" + content[2001:])
    with pytest.raises(UserError, match="is no readable PyTorch checkpoint: it is broken"):
        read_state_dict(tmp_path / "x.pth")
    torch.save({"weights": 3}, tmp_path / "x.pth")
    with pytest.raises(UserError, match='holds no "state_dict" of tensors'):
        read_state_dict(tmp_path / "x.pth")
    for state in ([1], {1: torch.ones(1)}, {"x": torch.ones(2).to_sparse()}, {"x": torch.ones(2, device="meta")}):
        torch.save({"state_dict": state}, tmp_path / "x.pth")
        with pytest.raises(UserError, match='holds no "state_dict" of tensors'):
            read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_is_known_by_its_content(released: dict[str, torch.Tensor], tmp_path, ending: str):
    whole = {".pth": tmp_path / "whole.pth", ".safetensors": tmp_path / "whole.safetensors"}
    torch.save(released, whole[".pth"])
    save_file(released, whole[".safetensors"])
    for kind, file in whole.items():
        named = tmp_path / f"named{ending}"
        content = file.read_bytes()
        named.write_bytes(content)
        assert read_state_dict(named).keys() == released.keys()
        for length in (0, 8, 9, len(content) // 2, len(content) - 1):
            named.write_bytes(content[:length])
            expected = "safetensors" if kind == ".safetensors" and length > 8 else "PyTorch"
            with pytest.raises(UserError, match=f"is no readable {expected}"):
                read_state_dict(named)


@pytest.fixture(scope="module")
def spt(golden: Path) -> dict[str, torch.Tensor]:
    """SPT-SEG's tensors, two of those that nothing reads among them."""
    dead = {"backbone.proj_fre.bias": torch.ones(10), "decode_head.decoder_1.layers.0.hlfs.h_proj.bias": torch.ones(4)}
    return load_file(golden / "spt_tiny" / "weights.safetensors") | dead


def test_spt_seg_is_recognised(spt: dict[str, torch.Tensor], tmp_path):
    """The tensors tell host, grid and heads; what is saved comes back."""
    imported = import_state_dict(spt, ImportOptions(vision_heads=4, text_heads=4, decoder_heads=4))
    assert (imported.config.host, imported.config.stages) == ("spt-seg", ((12,),))
    assert (imported.config.spectral.grid, imported.config.decoder.heads) == (32, 8)
    assert {"backbone.proj_fre.bias", "decode_head.decoder_1.layers.0.hlfs.h_proj.bias"} <= set(imported.dropped)
    save_import(imported, recipe_of_import("spt", None), tmp_path / "spt")
    loaded = CascadeCLIP.from_pretrained(tmp_path / "spt")
    assert loaded.recipe.region_loss == "ssim"
    image, text = torch.randn(1, 3, 64, 64), torch.randn(3, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(image, text), imported.network(image, text))
