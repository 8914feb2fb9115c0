"""Position decides everything: order, augmentation, and the batches of every process."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_batches import TRANSFORM

from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSamples, train_loader
from cascade_clip.errors import UserError


@pytest.fixture
def samples(squares: Path) -> TrainSamples:
    return TrainSamples(PreparedDataset.open(squares), TRANSFORM, seed=5)


def test_a_sample_is_named_after_its_image(samples: TrainSamples):
    sample = samples[3]
    assert sample["id"] == f"t{samples.index_at(3)}"
    assert (sample["image"].dtype, sample["label"].dtype) == (torch.float32, torch.uint8)


def test_hidden_classes_are_ignored(samples: TrainSamples):
    hiding = TrainSamples(samples.dataset, samples.transform, seed=5, hidden=(0, 2))
    found = {label for position in range(5) for label in hiding[position]["label"].unique().tolist()}
    assert found == {1, 255}


def test_a_stream_is_shuffled_by_the_seed_and_the_epoch():
    stream = SimpleNamespace(streams=True, count=lambda _part: 10, read_shuffled=lambda *asked: asked)
    assert TrainSamples(stream, TRANSFORM, seed=5)._record(23) == (5, 2, 3)


def test_each_epoch_is_another_permutation(samples: TrainSamples):
    epochs = [[samples.index_at(10 * epoch + place) for place in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_position_and_seed_decide_and_nothing_else(samples: TrainSamples):
    again = TrainSamples(samples.dataset, samples.transform, seed=5)
    torch.manual_seed(1)
    assert torch.equal(samples[27]["image"], again[27]["image"])
    other = TrainSamples(samples.dataset, samples.transform, seed=6)
    assert [samples.index_at(p) for p in range(10)] != [other.index_at(p) for p in range(10)]
    alike = next(p for p in range(100) if samples.index_at(p) == other.index_at(p))
    assert not torch.equal(samples[alike]["image"], other[alike]["image"])
    later = next(p for p in range(10, 1000, 10) if samples.index_at(p) == samples.index_at(0))
    assert not torch.equal(samples[0]["image"], samples[later]["image"])


def _stream(samples: TrainSamples, **options: int) -> list[torch.Tensor]:
    return [batch["image"] for batch in train_loader(samples, steps=4, batch=6, **options)]  # type: ignore[arg-type]


def _equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize(("start", "workers"), [(0, 2), (2, 0), (2, 1)])
def test_neither_workers_nor_a_later_start_change_the_batches(samples: TrainSamples, start: int, workers: int):
    assert _equal(_stream(samples, start_step=0)[start:], _stream(samples, start_step=start, workers=workers))


def test_processes_share_each_batch_in_order(samples: TrainSamples):
    whole = _stream(samples, start_step=0)
    ranks = [_stream(samples, start_step=0, rank=rank, world=3) for rank in range(3)]
    assert _equal(whole, [torch.cat(shares) for shares in zip(*ranks, strict=True)])


def test_micro_batches_cut_the_share(samples: TrainSamples):
    loader = train_loader(samples, start_step=1, steps=3, batch=12, rank=1, world=2, micro_batch=4)
    batches = list(loader)
    assert len(batches) == 4
    assert [len(batch["id"]) for batch in batches] == [4, 2, 4, 2]
    assert batches[0]["id"] == [samples[position]["id"] for position in range(18, 22)]
    assert batches[3]["id"] == [samples[position]["id"] for position in (34, 35)]


def test_loading_leaves_the_global_generator_alone(samples: TrainSamples):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    next(iter(train_loader(samples, start_step=0, steps=1, batch=2, workers=1)))
    assert torch.equal(torch.rand(1), expected)


def test_uneven_batches_and_no_images_are_refused(samples: TrainSamples, squares: Path):
    with pytest.raises(UserError, match="batch of 5 images cannot be split evenly over 2 processes"):
        train_loader(samples, start_step=0, steps=1, batch=5, world=2)
    dataset = PreparedDataset.open(squares)
    dataset.info.parts.pop("train")
    with pytest.raises(UserError, match="has no training images"):
        TrainSamples(dataset, TRANSFORM, seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_one_sentence_from_workers_too(squares: Path, tmp_path, workers: int):
    folder = shutil.copytree(squares, tmp_path / "squares")
    shard = folder / "data" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[2000] ^= 255
    shard.write_bytes(content)
    samples = TrainSamples(PreparedDataset.open(folder), TRANSFORM, seed=0)
    with pytest.raises(UserError) as caught:
        list(train_loader(samples, start_step=0, steps=2, batch=10, workers=workers))
    assert str(caught.value).startswith(f"The shard {shard} is damaged (")
    assert "Traceback" not in str(caught.value)
