"""Loading CLIP: names, files, folders, and the errors with their ways out."""

import json
import math
from copy import deepcopy
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import Clip, from_parts, hash_of_weights, load_clip
from cascade_clip.model.clip.open_clip_model import build_model


def _state(clip: Clip) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in clip.model.state_dict().items() if "attn_mask" not in name}


def test_random_weights_are_seeded_and_leave_the_random_state(tiny_clip_file: Path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (load_clip(str(tiny_clip_file), f"random:{seed}") for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.identity.sha256 == same.identity.sha256 != other.identity.sha256
    assert not any(parameter.requires_grad for parameter in one.model.parameters())


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "nested state dict", "half"])
def test_local_files(tiny_clip: Clip, tiny_clip_file: Path, tmp_path, kind: str):
    state = _state(tiny_clip)
    if kind == "half":
        state = {name: tensor.half() for name, tensor in state.items()}
    file = tmp_path / ("weights.safetensors" if kind in {"safetensors", "half"} else "weights.pt")
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state} if kind == "nested state dict" else state, file)
    loaded = load_clip(str(tiny_clip_file), str(file))
    assert loaded.model.logit_scale.dtype == torch.float32
    assert (loaded.identity.sha256 == tiny_clip.identity.sha256) is (kind != "half")
    assert hash_of_weights(deepcopy(loaded.model).half()) == loaded.identity.sha256 or kind != "half"


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_archive(tiny_clip: Clip, tiny_clip_file: Path, tmp_path):
    """As OpenAI's: open_clip's names and three scalars."""
    file, model = tmp_path / "ViT.pt", deepcopy(tiny_clip.model)
    for scalar in ("input_resolution", "context_length", "vocab_size"):
        vars(model).pop(scalar, None)
        model.register_buffer(scalar, torch.tensor(1))
    del model.attn_mask
    torch.jit.trace_module(model, {"encode_image": torch.zeros(1, 3, 64, 64)}).save(file)
    assert load_clip(str(tiny_clip_file), str(file)).identity.sha256 == tiny_clip.identity.sha256
    plain = json.loads(tiny_clip_file.read_text()) | {"quick_gelu": False}
    other = tmp_path / "gelu.json"
    other.write_text(json.dumps(plain))
    with pytest.raises(UserError, match='choose the architecture whose name ends in "-quickgelu"'):
        load_clip(str(other), str(file))


def test_local_dir(tiny_clip: Clip, tiny_clip_file: Path, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": json.loads(tiny_clip_file.read_text())}))
    with pytest.raises(UserError, match="holds no CLIP weights"):
        load_clip(f"local-dir:{tmp_path}")
    save_file(_state(tiny_clip), tmp_path / "open_clip_model.safetensors")
    assert load_clip(f"local-dir:{tmp_path}").identity.sha256 == tiny_clip.identity.sha256


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (None, {"quick_gelu": "no"}, "quick_gelu is 'no', no truth value"),
        (None, {"vision_cfg": []}, "vision_cfg and text_cfg are tables"),
        (None, {"zzz": 1}, "open_clip cannot build a CLIP of these settings"),
        ("vision_cfg", {"head_width": 13}, "heads of 13 channels do not divide a width of 48"),
        ("vision_cfg", {"patch_size": 0}, "open_clip cannot build a CLIP of these settings"),
        ("text_cfg", {"hf_tokenizer_name": "nope/none"}, 'The tokenizer "nope/none" of this CLIP cannot be loaded'),
    ],
)
def test_settings_of_no_clip(tiny_clip_file: Path, tmp_path, section: str | None, change: dict, message: str):
    settings = json.loads(tiny_clip_file.read_text())
    (settings if section is None else settings[section]).update(change)
    (tmp_path / "clip.json").write_text(json.dumps(settings))
    with pytest.raises(UserError) as caught:
        load_clip(str(tmp_path / "clip.json"), "random")
    assert message in str(caught.value)


def test_weights_that_are_no_numbers(tiny_clip: Clip, tiny_clip_file: Path, tmp_path):
    state = _state(tiny_clip)
    save_file({**state, "visual.proj": state["visual.proj"] * torch.inf}, tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match=r"holds NaN or infinite values in visual\.proj"):
        load_clip(str(tiny_clip_file), str(tmp_path / "broken.safetensors"))


def test_towers_without_class_token_are_refused():
    settings = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32},
        "text_cfg": None,
    }
    with pytest.raises(UserError, match="is no ViT with a class token"):
        build_model(settings)


@pytest.mark.parametrize(
    ("architecture", "weights", "message"),
    [
        ("ViT-B-61", "openai", 'open_clip knows no architecture "ViT-B-61". Did you mean'),
        ("bundeld", None, 'open_clip knows no architecture "bundeld". Did you mean "bundled"?'),
        ("ViT-B-16-quickgelu", None, 'No weights are given for CLIP "ViT-B-16-quickgelu"'),
        ("ViT-B-16-quickgelu", "opena", '"opena" is neither a file nor a pretrained tag'),
        ("ViT-B-16", "openai", 'were trained with QuickGELU, but "ViT-B-16" computes the other activation'),
        ("ViT-B-16-quickgelu", "openai", "could not be downloaded"),
        ("hf-hub:nobody/nothing", None, '"hf-hub:nobody/nothing" could not be fetched'),
        ("local-dir:no/such/folder", None, "There is no CLIP at"),
    ],
)
def test_errors(architecture: str, weights: str | None, message: str, monkeypatch):
    def offline(*_args: object, **_kwargs: object) -> str:
        raise OSError("no network in tests")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(UserError) as caught:
        load_clip(architecture, weights)
    assert message in str(caught.value)
    if "downloaded" in message or "fetched" in message:
        assert "--set clip.weights=" in str(caught.value)
        assert "bundled" in str(caught.value)


def test_weights_of_another_architecture(tiny_clip: Clip, tiny_clip_file: Path, tmp_path):
    state = _state(tiny_clip)
    del state["visual.proj"]
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors.*visual\.proj"):
        load_clip(str(tiny_clip_file), str(tmp_path / "other.safetensors"))


def test_tensors_at_hand_are_taken_over_and_no_weights_drawn(tiny_clip: Clip, monkeypatch):
    state = _state(tiny_clip)
    del state["logit_scale"]
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor if tensor.is_meta else 1 / 0)
    clip = from_parts("mine", None, tiny_clip.identity.model_config, state)
    assert clip.identity.sha256 == tiny_clip.identity.sha256
    assert clip.visual.proj.data_ptr() == state["visual.proj"].data_ptr()
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in clip.model.parameters())
    assert float(clip.model.logit_scale) == pytest.approx(math.log(1 / 0.07))
    image = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(clip.visual(image), tiny_clip.visual(image))


@pytest.mark.parametrize("architecture", ["bundled", "local-dir:somewhere", "hf-hub:org/clip"])
def test_weights_for_a_clip_that_has_its_own(architecture: str):
    with pytest.raises(UserError, match=f'"{architecture}" has weights of its own: leave out "mine.pt"'):
        load_clip(architecture, "mine.pt")
