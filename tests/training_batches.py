"""Small training batches of a dataset, to compare ways of reading it."""

import torch

from cascade_clip.config.schema import DataConfig
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform

TRANSFORM = TrainTransform(DataConfig(short_side=32, long_side=128, crop=32))


def load_batches(dataset: PreparedDataset, **options: int) -> list[dict[str, torch.Tensor]]:
    """Batches up to step 6, four images each."""
    return list(train_loader(TrainSamples(dataset, TRANSFORM, seed=5), steps=6, batch=4, **options))  # type: ignore[arg-type]


def assert_same_batches(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> None:
    assert [batch["id"] for batch in one] == [batch["id"] for batch in other]
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["label"], second["label"])
