"""The script that trains the bundled CLIP, on a curriculum cut to nothing."""

import json
import math
import sys
from pathlib import Path

import open_clip
import pytest
import torch
import train_clip as script
from pairs import CurriculumStage
from torch.nn import functional

from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.training_free import METHODS

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

if not hasattr(torch.optim, "Muon"):
    pytest.skip("the script needs PyTorch 2.9 or newer", allow_module_level=True)


@pytest.fixture(scope="module")
def model():
    return open_clip.CLIP(**script.MODEL | {"text_cfg": script.MODEL["text_cfg"] | {"vocab_size": 600}}).eval()


@pytest.fixture
def short(monkeypatch):
    small = CurriculumStage(size=48, things=(1, 1), stuff=(1, 1), batch=4, share=0.5, pool=8)
    large = CurriculumStage(size=128, things=(1, 2), stuff=(1, 2), batch=2, share=0.5, pool=4)
    monkeypatch.setattr(script, "CURRICULUM", (small, large))

    def run(output: Path, *arguments: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", ["train_clip", "--output", str(output), "--scenes", "5", *arguments])
        script.main()
        return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]

    return run


def test_loss_of_two_pairs_by_hand():
    """Unit vectors at right angles, scale 2: each of the four terms is log(1 + e^-2)."""
    loss = script.contrastive_loss(2 * torch.eye(2), torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_other_positives_are_no_negatives():
    """An image that two captions fit pays nothing for the second; only the third, wrong one counts."""
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[True, True, False]])
    rows = script._one_way(3.0 * image @ texts.T, positive)
    assert rows.item() == pytest.approx(math.log(1 + math.exp(-3)))


def test_pooled_patches_lie_between_mean_and_maximum_of_their_cosines():
    """Four patches, one of which shows the text: (log(3 e^0 + e^8) - log 4) / 8."""
    patches, text = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]]), torch.tensor([[1.0, 0.0]])
    pooled = script.best_patches(patches, text)
    assert pooled.shape == (1, 1)
    assert pooled.item() == pytest.approx((math.log(3 + math.exp(8)) - math.log(4)) / 8)
    assert script.best_patches(patches[:, :1], text).item() == pytest.approx(1)


def test_whole_grid_equals_open_clips_own_tower(model):
    images = torch.randn(2, 3, 128, 128)
    whole, patches = script.encode_images(model, images, script.position_window(model, 16, 0, 0))
    torch.testing.assert_close(whole, model.encode_image(images, normalize=True))
    texts = functional.normalize(torch.randn(3, patches.shape[2]), dim=-1)
    cosines = DenseNetwork(model.visual, METHODS["value"]).cosines(images, texts).flatten(2)
    torch.testing.assert_close((patches @ texts.T).transpose(1, 2), cosines, rtol=1e-4, atol=1e-5)


def test_resumed_run_ends_where_an_unbroken_one_does(short, tmp_path, monkeypatch):
    short(tmp_path / "whole", "--steps", "4", "--every", "2")
    take_step = script.Trainer.train_step

    def broken(trainer, pairs, stage, steps):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return take_step(trainer, pairs, stage, steps)

    with monkeypatch.context() as patch:
        patch.setattr(script.Trainer, "train_step", broken)
        with pytest.raises(KeyboardInterrupt):
            short(tmp_path / "broken", "--steps", "4", "--every", "2")
    short(tmp_path / "broken", "--steps", "4", "--every", "2", "--resume")
    model, other = (open_clip.create_model(f"local-dir:{tmp_path / name}").state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(model[name], other[name]) for name in model)
