"""One optimiser step: every setting of the recipe has its part in its rate and its loss."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from cascade_clip.config.schema import LossConfig, Recipe, TrainConfig
from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.training.step import TrainStep, build_optimizer, set_learning_rate


def test_every_setting_of_the_schedule_counts(tiny_recipe: Recipe, tiny_clip: Clip):
    rates = {"lr": 1e-3, "min_lr": 1e-4, "power": 2.0, "encoder_lr_factor": 2.0, "head_lr_factor": 3.0}
    config = TrainConfig(iterations=10, warmup=4, warmup_ratio=0.2, **rates)
    optimizer = build_optimizer(build_network(tiny_recipe.model, tiny_clip.visual), config)
    first = set_learning_rate(optimizer, 1, config)
    expected = [((factor * 1e-3 - 1e-4) * 0.9**2 + 1e-4) * (1 - 0.75 * 0.8) for factor in (2, 3)]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)
    assert first == pytest.approx(expected[0])


@pytest.mark.parametrize("region", ["dice", "ssim"])
def test_every_setting_of_the_loss_counts(region: str):
    """In micro-batches of unequal size; of the gradient nothing stays."""
    network = torch.nn.Conv2d(3, 2, 1)
    images, labels = torch.randn(3, 3, 4, 4), torch.randint(0, 2, (3, 4, 4))
    labels[:, 0] = 255
    loss = LossConfig(focal=3.0, dice=4.0, ignored="masked")
    options = {"focal_weight": 3.0, "dice_weight": 4.0, "ignored": "masked", "region": region}
    whole = segmentation_loss(network(images), labels, **options)
    (expected,) = torch.autograd.grad(whole.total, network.weight)
    before = network.weight.detach().clone()
    step = TrainStep(
        accelerator=Accelerator(cpu=True),
        network=lambda image, _text: network(image),
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        text=torch.zeros(2, 1),
        labeller=SimpleNamespace(label=lambda _batch, _passes: [labels[:2], labels[2:]]),
        loss=loss,
        region_loss=region,
    )
    terms = step([{"image": images[:2]}, {"image": images[2:]}])
    assert terms.tolist() == pytest.approx([whole.focal.item(), (whole.dice + whole.ssim).item(), 0], rel=1e-5)
    torch.testing.assert_close(before - network.weight, expected, rtol=1e-4, atol=1e-5)
    assert network.weight.grad is None
