"""On a CUDA device, in fp32 without TF32, the same tensors come out as on the CPU."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.inference.class_scores import class_scores
from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.losses.targets import remap_labels, seen_label_table
from cascade_clip.training.step import trainable_parameters

from .conftest import TOLERANCE, GoldenModel
from .test_loss import ZERO_GRADIENT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
SUMS = 4
"""How much further than on the CPU results may lie from the golden ones: sums are taken in another order."""


@pytest.fixture(autouse=True)
def full_precision(monkeypatch) -> None:
    """cuDNN rounds the products of convolutions, the patch embedding's too, to TF32 unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@torch.no_grad()
def test_masks_and_scores(model: GoldenModel):
    network, image, text = deepcopy(model.imported.network).cuda(), model.io["image"].cuda(), model.text.cuda()
    seen = torch.zeros(len(text), dtype=torch.bool)
    seen[model.seen] = True
    logits = network(image, text)
    scores = class_scores(logits, tuple(image.shape[-2:]), seen.cuda(), 0.1)
    torch.testing.assert_close(scores.cpu(), model.io["pred_inductive"], rtol=0, atol=SUMS * TOLERANCE["scores"])
    upsampled = F.interpolate(logits, size=image.shape[-2:], mode="bilinear")
    torch.testing.assert_close(upsampled.cpu(), model.io["pred_masks"], rtol=0, atol=SUMS * TOLERANCE["mask_logits"])


def test_gradient_of_every_parameter(model: GoldenModel):
    network = model.fresh().network.train().cuda()
    image = model.loss.get("image", model.io["image"]).cuda()
    labels = remap_labels(model.loss["labels"][:, 0].long().cuda(), seen_label_table(model.seen).cuda())
    logits = network(image, model.text[model.seen].cuda())
    segmentation_loss(F.interpolate(logits, size=labels.shape[-2:], mode="bilinear"), labels).total.backward()
    ours = {name: parameter.grad for name, parameter in trainable_parameters(network).items()}
    names = [name.removeprefix("inductive.grad.") for name in model.loss if name.startswith("inductive.grad.")]
    assert len(names) > 20
    for name in names:
        gradient, golden = model.ours(name, ours), model.loss[f"inductive.grad.{name}"]
        assert gradient is not None, name
        if not name.endswith(ZERO_GRADIENT):
            within = SUMS * TOLERANCE["gradient"] * float(golden.abs().max())
            torch.testing.assert_close(gradient.cpu(), golden, rtol=0, atol=within, msg=lambda m, n=name: f"{n}: {m}")
