import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.data.images import encode_label
from cascade_clip.errors import UserError
from cascade_clip.evaluation.evaluate import chosen_images, evaluate

CPU = torch.device("cpu")
DATA = DataConfig(short_side=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
INFERENCE = InferenceConfig(crop=32, stride=24)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
TEXT = torch.eye(3)
SPLIT = Split(
    "rgb-seen",
    "rgb",
    tuple(ClassEntry(name, name, (0, 0, 0)) for name in ("red", "green", "blue")),
    frozenset({"blue"}),
)


class Colours(torch.nn.Module):
    patch_size = 4

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return 4 * torch.einsum("bchw,kc->bkhw", F.avg_pool2d(image, 4), text)


class Plain:
    """Images of one colour; image i is 41 + i pixels wide, so that every image has its own number of pixels."""

    def __init__(self, count: int) -> None:
        self.labels = [np.full((40, 41 + i), i % 3, np.uint8) for i in range(count)]
        self.images = [COLOURS[label] for label in self.labels]
        for label in self.labels:
            label[:2] = 255
        self.reads: list[int] = []

    def count(self, part: str) -> int:
        return len(self.labels) if part == "val" else 0

    def read(self, part: str, index: int) -> SimpleNamespace:
        assert part == "val"
        self.reads.append(index)
        encoded = io.BytesIO()
        Image.fromarray(self.images[index]).save(encoded, "PNG")
        return SimpleNamespace(
            id=f"image-{index}",
            image_bytes=encoded.getvalue(),
            label_bytes=encode_label(self.labels[index]),
            present=[],
        )


def run(dataset: Plain, **options: object) -> torch.Tensor:
    return evaluate(Colours(), TEXT, SPLIT, dataset, DATA, INFERENCE, device=CPU, **options)


def test_plain_images_are_all_right_and_ignored_rows_do_not_count():
    confusion = run(Plain(3))
    assert confusion.tolist() == torch.diag(torch.tensor([38 * 41, 38 * 42, 38 * 43])).tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 9])
def test_processes_together_count_every_image_exactly_once(world: int):
    datasets = [Plain(7) for _ in range(world)]
    parts = [run(dataset, rank=rank, world=world) for rank, dataset in enumerate(datasets)]
    assert torch.equal(sum(parts), run(Plain(7)))
    assert sorted(index for dataset in datasets for index in dataset.reads) == list(range(7))
    assert datasets[0].reads == list(range(0, 7, world))


def test_progress_is_told_after_every_image():
    told: list[tuple[int, int, str]] = []
    run(Plain(3), rank=1, world=2, progress=lambda *step: told.append(step))
    run(Plain(3), rank=0, world=2, progress=lambda *step: told.append(step))
    assert told == [(1, 1, "image-1"), (1, 2, "image-0"), (2, 2, "image-2")]


def test_a_limit_spreads_over_the_set():
    assert chosen_images(10, 0) == chosen_images(10, 10) == chosen_images(10, 99) == list(range(10))
    assert chosen_images(10, 4) == [0, 2, 5, 7]
    dataset = Plain(6)
    run(dataset, limit=2)
    assert dataset.reads == [0, 3]


def test_an_empty_part_is_refused():
    with pytest.raises(UserError, match='no images in its part "train"'):
        run(Plain(2), part="train")


def test_a_label_outside_the_split_names_the_image():
    dataset = Plain(2)
    dataset.labels[1][5, 5] = 9
    with pytest.raises(UserError, match='Image "image-1": The label holds class 9'):
        run(dataset)


def test_a_label_of_another_size_names_the_image():
    dataset = Plain(2)
    dataset.labels[0] = dataset.labels[0][:-1]
    with pytest.raises(UserError, match='Image "image-0": The label is 41 x 39 pixels but its image is 41 x 40'):
        run(dataset)


def test_every_process_tells_how_its_images_fare():
    results = []
    for rank in range(2):
        run(Plain(5), rank=rank, world=2, results=results)
    assert [(one.id, one.index) for one in results] == [(f"image-{i}", i) for i in (0, 2, 4, 1, 3)]
    assert {(one.miou, one.pixel_accuracy) for one in results} == {(1.0, 1.0)}


def test_results_do_not_change_the_count():
    assert torch.equal(run(Plain(3), results=[]), run(Plain(3)))
