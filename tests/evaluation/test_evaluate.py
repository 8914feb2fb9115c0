import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from cascade_clip import CascadeCLIP
from cascade_clip.config.schema import DataConfig, InferenceConfig, Recipe
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.data.images import encode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.evaluation import evaluate as evaluation
from cascade_clip.evaluation.evaluate import EvaluationResult, chosen_images, evaluate, find_dataset
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.vocabulary import Vocabulary

CPU = torch.device("cpu")
DATA = DataConfig(short_side=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
INFERENCE = InferenceConfig(crop=32, stride=24)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
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


class Plain(PreparedDataset):
    """Images of one colour; image i is 41 + i pixels wide, so that every image has its own number of pixels."""

    def __init__(self, count: int) -> None:
        self.labels = [np.full((40, 41 + i), i % 3, np.uint8) for i in range(count)]
        self.images = [COLOURS[label] for label in self.labels]
        for label in self.labels:
            label[:2] = 255
        self.reads: list[int] = []

    @property
    def name(self) -> str:
        return "plain"

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


class ColourModel(CascadeCLIP):
    """A model without CLIP."""

    def __init__(self) -> None:
        self.network, self.split, self.device, self.dtype = Colours(), SPLIT, CPU, torch.float32
        self.recipe = Recipe(data=DATA, inference=INFERENCE)
        self.clip = SimpleNamespace(visual=SimpleNamespace(proj=torch.eye(3)))

    def embed(self, classes: Sequence[str], *, templates: str | None = None) -> torch.Tensor:
        return torch.eye(3) if templates is None else torch.eye(3)[[1, 0, 2]]


def run(dataset: Plain, **options: object) -> EvaluationResult:
    return evaluate(ColourModel(), None, dataset, **options)


def test_plain_images_are_all_right_and_ignored_rows_do_not_count():
    told: list[tuple[int, int, str]] = []
    result = run(Plain(3), progress=lambda *step: told.append(step))
    assert told == [(1, 3, "image-0"), (2, 3, "image-1"), (3, 3, "image-2")]
    assert result.confusion.tolist() == np.diag([38 * 41, 38 * 42, 38 * 43]).tolist()
    assert [(one.id, one.index, one.miou, one.pixel_accuracy) for one in result.images] == [
        (f"image-{i}", i, 1.0, 1.0) for i in range(3)
    ]
    assert (result.scores.miou_seen, result.scores.miou_unseen, result.confused) == (1.0, 1.0, [])
    record = json.loads(json.dumps(result.to_dict()))
    assert (record["split"], record["dataset"], record["images"], record["processes"]) == ("rgb-seen", "plain", 3, 1)
    assert record["scores"] == result.scores.to_dict()


@pytest.mark.parametrize("world", [2, 3, 9])
def test_processes_together_count_every_image_exactly_once(world: int, monkeypatch):
    whole, datasets, parts = run(Plain(7)), [Plain(7) for _ in range(world)], []
    monkeypatch.setattr(evaluation, "_gathered", lambda confusion, images, world: (confusion, images))
    for rank, dataset in enumerate(datasets):
        monkeypatch.setattr(evaluation, "_place_among_processes", lambda rank=rank: (rank, world))
        parts.append(run(dataset))
    assert np.array_equal(sum(part.confusion for part in parts), whole.confusion)
    assert sorted(index for dataset in datasets for index in dataset.reads) == list(range(7))
    assert datasets[0].reads == list(range(0, 7, world))


def test_all_processes_images_in_the_order_of_the_dataset(monkeypatch):
    images, summed = run(Plain(5)).images, []

    def gather(shares: list[object], _own: object) -> None:
        shares[:] = [images[rank::2] for rank in range(2)]

    together = SimpleNamespace(all_reduce=summed.append, all_gather_object=gather)
    monkeypatch.setattr(evaluation, "distributed", together)
    confusion, found = evaluation._gathered(torch.eye(3), [], 2)
    assert tuple(found) == images
    assert summed[0] is confusion


def test_what_is_given_decides(monkeypatch):
    observed: list[Segmentation] = []
    benchmarks: list[Split] = []
    monkeypatch.setattr(ColourModel, "for_benchmark", lambda model, split: benchmarks.append(split) or model)
    inference = INFERENCE.model_copy(update={"flip": True})
    result = run(Plain(3), inference=inference, templates="single", observe=observed.append)
    assert (result.inference, result.templates, benchmarks) == (inference, "single", [SPLIT])
    assert [one.source for one in observed] == ["image-0", "image-1", "image-2"]
    assert result.confusion.argmax(axis=1).tolist() == [1, 0, 2]
    given = run(Plain(3), text_embeddings=torch.eye(3)[[2, 1, 0]])
    assert given.confusion.argmax(axis=1).tolist() == [2, 1, 0]


def test_which_split_and_dataset_are_meant(squares: Path, monkeypatch):
    asked: list[tuple[object, ...]] = []

    def locate(name: str, data: object, *, stream: bool, class_names: object) -> Path:
        asked.append((name, data, stream))
        return squares

    monkeypatch.setattr(evaluation, "locate_dataset", locate)
    model = ColourModel()
    own = DATA.model_copy(update={"dataset": "own", "stream": True})
    model.recipe = model.recipe.model_copy(update={"data": own})
    assert find_dataset(model, None, None)[0] is SPLIT
    assert find_dataset(model, None, squares)[0] is SPLIT
    with pytest.raises(UserError, match='does not hold the classes of the split "voc"'):
        find_dataset(model, "voc", None)
    assert asked == [("rgb", "own", True), ("rgb", squares, False), ("voc", None, True)]
    model.split = replace(SPLIT, classes=SPLIT.classes[:2])
    assert find_dataset(model, None, squares)[0].class_names == SPLIT.class_names


def test_a_limit_spreads_over_the_set():
    assert chosen_images(10, 0) == chosen_images(10, 10) == chosen_images(10, 99) == list(range(10))
    assert chosen_images(10, 4) == [0, 2, 5, 7]
    dataset = Plain(6)
    result = run(dataset, limit=2)
    assert dataset.reads == [0, 3]
    assert (len(result.images), result.images_of_the_set) == (2, 6)


def test_mistakes():
    with pytest.raises(UserError, match='no images in its part "train"'):
        run(Plain(2), part="train")
    with pytest.raises(UserError, match='"test" is no part of a dataset'):
        run(Plain(2), part="test")
    with pytest.raises(UserError, match="The limit of -1 images does not fit"):
        run(Plain(2), limit=-1)
    with pytest.raises(UserError, match=r'load it with CascadeCLIP\.from_pretrained\("bundled"\)'):
        evaluate("bundled", None, Plain(2))
    with pytest.raises(UserError, match=r"For 3 classes text embeddings of shape \(2, 3\)"):
        Vocabulary.of_split(SPLIT, torch.eye(3)[:2])
    model = ColourModel()
    model.split = None
    with pytest.raises(UserError, match="does not say what it was trained on: give --split NAME"):
        evaluate(model, None, Plain(2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda label: label[5:6, 5:6].fill(3) or label, "The label holds class 3"),
        (lambda label: label[:-1], "The label is 42 x 39 pixels but its image is 42 x 40"),
    ],
)
def test_a_label_that_does_not_fit_names_the_image(damage: Callable, message: str):
    dataset = Plain(2)
    dataset.labels[1] = damage(dataset.labels[1])
    with pytest.raises(UserError, match=f'Image "image-1": {message}'):
        run(dataset)
