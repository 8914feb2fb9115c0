"""Datasets in other people's layouts: prepared, or read while training, with and without a stream."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from fake_hub import COMMIT, fake_hub
from PIL import Image
from safetensors.torch import load_file

from cascade_clip.config.schema import DataConfig, Recipe
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.dataset_location import locate_dataset
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.data.dataset_location import dataset_folder
from cascade_clip.preparation.prepare_hub import prepare_hub, row_ids
from cascade_clip.data.foreign_rows import _Cursor as RowCursor
from cascade_clip.data.foreign_rows import RowSource
from cascade_clip.data.foreign_rows import ForeignRows as Rows
from cascade_clip.training.start import start_training

NAMES = ("sky", "tree", "road")
CONFIG = DataConfig(short_side=32, long_side=128, crop=32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `datasets` converts lies in the test's folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-datasets")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def _label(index: int) -> np.ndarray:
    """Each of the three classes, and ignored pixels; another one for every index."""
    label = np.full((30 + index % 3, 40), index % 3, np.uint8)
    label[5:15, 5 : 10 + index] = (index + 1) % 3
    label[0, :4] = 255
    return label


def _image(index: int) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (30 + index % 3, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def _mask(label: np.ndarray) -> bytes:
    """A palette PNG whose colours are far from its indices."""
    image = Image.fromarray(label, mode="P")
    image.putpalette([(37 * value + 11) % 256 for value in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_imagefolder(folder: Path, *, train: int = 9, validation: int = 3) -> Path:
    """An imagefolder whose metadata.jsonl names image and mask of each pair."""
    for split, indices in (("train", range(train)), ("validation", range(100, 100 + validation))):
        if not indices:
            continue
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir()
        lines = []
        for index in indices:
            (folder / split / "images" / f"p{index}.jpg").write_bytes(_image(index))
            (folder / split / "masks" / f"p{index}.png").write_bytes(_mask(_label(index)))
            pair = {"image_file_name": f"images/p{index}.jpg", "mask_file_name": f"masks/p{index}.png"}
            lines.append(json.dumps({**pair, "scene": "street"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def write_parquet(
    folder: Path,
    *,
    train: int = 9,
    validation: int = 3,
    columns: tuple[str, str] = ("pixel_values", "annotation"),
    mask: Callable[[int], bytes | None] = lambda index: _mask(_label(index)),
    **more: Any,
) -> Path:
    """Parquet files as `Dataset.to_parquet` writes them, two files for the training split."""
    image, label = columns
    features = {
        image: datasets.Image(),
        label: datasets.Image(),
        "present": datasets.List(datasets.ClassLabel(names=NAMES)),
    }
    rows_of = {
        "train-0": range(train // 2),
        "train-1": range(train // 2, train),
        "validation-0": range(100, 100 + validation),
    }
    (folder / "data").mkdir(parents=True)
    for name, indices in rows_of.items():
        if not indices:
            continue
        rows = {
            image: [{"bytes": _image(index), "path": None} for index in indices],
            label: [{"bytes": found, "path": None} if (found := mask(index)) else None for index in indices],
            "present": [[0]] * len(indices),
            **{column: [value] * len(indices) for column, (_, value) in more.items()},
        }
        typed = datasets.Features({**features, **{column: feature for column, (feature, _) in more.items()}})
        datasets.Dataset.from_dict(rows, features=typed).to_parquet(folder / "data" / f"{name}.parquet", batch_size=2)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _assert_pairs(folder: Path, part: Any, indices: list[int]) -> None:
    dataset = PreparedDataset.open(folder)
    assert dataset.count(part) == len(indices)
    for place, index in enumerate(indices):
        record = dataset.read(part, place)
        assert record.image_bytes == _image(index)
        assert np.array_equal(decode_label(record.label_bytes), _label(index))
        assert record.present == sorted({index % 3, (index + 1) % 3})


@pytest.mark.parametrize("write", [write_imagefolder, write_parquet])
def test_prepared_with_and_without_a_stream_to_the_same_bytes(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    info = prepare_hub(tmp_path / "plain", source=str(source))
    assert (info.name, info.classes) == ("source", NAMES)
    _assert_pairs(tmp_path / "plain", "train", list(range(9)))
    _assert_pairs(tmp_path / "plain", "val", [100, 101, 102])
    prepare_hub(tmp_path / "streamed", source=source, stream=True, workers=4)
    prepare_hub(tmp_path / "parallel", source=source, workers=2)
    assert _files(tmp_path / "plain") == _files(tmp_path / "streamed") == _files(tmp_path / "parallel")


def test_a_stream_leaves_nothing_but_the_output(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source")
    prepare_hub(tmp_path / "out", source=source, stream=True)
    assert not list((tmp_path / "hf-datasets").rglob("*.arrow"))


def test_rows_are_named_after_their_files_or_numbered(tmp_path: Path) -> None:
    folder = write_imagefolder(tmp_path / "folder", validation=0)
    prepare_hub(tmp_path / "a", source=folder, val_fraction=0)
    assert PreparedDataset.open(tmp_path / "a").read("train", 4).id == "p4"
    parquet = write_parquet(tmp_path / "parquet", validation=0)
    prepare_hub(tmp_path / "b", source=parquet, val_fraction=0)
    assert PreparedDataset.open(tmp_path / "b").read("train", 4).id == "train-000004"
    assert row_ids(["/x/a/1.png", "/x/b/1.png"], 2, "train") == ["a/1", "b/1"]
    assert row_ids(["zip://a/1.png::hf://x", "zip://a/2.png::hf://x"], 2, "train") == ["1", "2"]
    assert row_ids(["/x/1.png", "/x/1.jpg"], 2, "train") == ["train-000000", "train-000001"]


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_validation_split_one_is_drawn(tmp_path: Path, stream: bool) -> None:
    source = write_parquet(tmp_path / "source", validation=0)
    info = prepare_hub(tmp_path / "out", source=source, val_fraction=0.3, seed=4, stream=stream)
    assert {part: content.images for part, content in info.parts.items()} == {"train": 6, "val": 3}
    dataset = PreparedDataset.open(tmp_path / "out")
    ids = [dataset.read("train", index).id for index in range(6)] + [
        dataset.read("val", index).id for index in range(3)
    ]
    assert sorted(ids) == [f"train-{index:06d}" for index in range(9)]
    prepare_hub(tmp_path / "other", source=source, val_fraction=0.3, seed=5, stream=stream)
    other = PreparedDataset.open(tmp_path / "other")
    assert [other.read("val", index).id for index in range(3)] != ids[6:]


def test_subset_takes_the_first_of_each_part(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source")
    prepare_hub(tmp_path / "out", source=source, subset=2, stream=True)
    _assert_pairs(tmp_path / "out", "train", [0, 1])
    _assert_pairs(tmp_path / "out", "val", [100, 101])


def test_mask_values_that_mean_no_class(tmp_path: Path) -> None:
    def counted_from_one(index: int) -> bytes:
        label = _label(index)
        return _mask(np.where(label == 255, 0, label + 1).astype(np.uint8))

    source = write_parquet(tmp_path / "source", mask=counted_from_one)
    with pytest.raises(UserError, match=r'The mask of row 1 of split "train" of .*source holds the value 3'):
        prepare_hub(tmp_path / "out", source=source)
    prepare_hub(tmp_path / "out", source=source, first_index=1, ignore=["0"])
    _assert_pairs(tmp_path / "out", "train", list(range(9)))


def test_class_names_come_from_the_user_a_file_or_the_features(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source")

    def classes(**given: Any) -> tuple[str, ...]:
        return prepare_hub(tmp_path / "out", source=source, subset=1, overwrite=True, **given).classes

    assert classes() == NAMES
    (source / "classes.txt").write_text("a\nb\nc\n")
    assert classes() == ("a", "b", "c")
    (source / "id2label.json").write_text('{"1": "e", "0": "d", "2": "f"}')
    assert classes() == ("d", "e", "f")
    (source / "dataset.json").write_text('{"classes": ["g", "h", "i"]}')
    assert classes() == ("g", "h", "i")
    assert classes(classes=["x", "y", "z"]) == ("x", "y", "z")
    (source / "dataset.json").write_text('{"classes": 3}')
    (source / "id2label.json").write_text('{"1": "e"}')
    with pytest.raises(UserError, match=r'id2label\.json must map "0", "1", \.\.\. without a gap to names'):
        classes()
    (source / "id2label.json").write_text("{")
    with pytest.raises(UserError, match=r"id2label\.json cannot be read \(.*Mend it, or give the names with --classes"):
        classes()
    (source / "id2label.json").write_text('{"0": "e", "1": "e"}')
    with pytest.raises(UserError, match=r'id2label\.json: classes: the name "e" stands there 2 times'):
        classes()


def test_one_class_label_an_image_names_no_classes(tmp_path: Path) -> None:
    source = write_imagefolder(tmp_path / "source")
    (source / "classes.txt").unlink()
    with pytest.raises(UserError, match="does not name its classes: give them with --classes or --classes-file"):
        prepare_hub(tmp_path / "out", source=source)
    parquet = write_parquet(tmp_path / "parquet", scene=(datasets.ClassLabel(names=["indoor", "outdoor"]), 0))
    assert prepare_hub(tmp_path / "out", source=parquet).classes == NAMES


def test_columns_are_found_by_type_and_name(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a", columns=("photo", "semantic_mask"))
    assert prepare_hub(tmp_path / "out", source=source).options["columns"] == ["photo", "semantic_mask"]
    odd = write_parquet(tmp_path / "b", columns=("image", "what"))
    assert prepare_hub(tmp_path / "odd", source=odd).options["columns"] == ["image", "what"]
    both = write_parquet(
        tmp_path / "c",
        columns=("image", "mask"),
        segmentation=(datasets.Image(), {"bytes": _mask(_label(1)), "path": None}),
    )
    with pytest.raises(UserError, match=r"several columns of images \(image, mask, segmentation\); say which one"):
        prepare_hub(tmp_path / "both", source=both)
    prepare_hub(tmp_path / "both", source=both, label_column="mask")
    _assert_pairs(tmp_path / "both", "train", list(range(9)))
    with pytest.raises(UserError, match=r'--label-column "maks": this column of .* is not there\. Did you mean "mask"'):
        prepare_hub(tmp_path / "x", source=both, label_column="maks")
    with pytest.raises(UserError, match=r'--image-column "present": this column of .* holds List'):
        prepare_hub(tmp_path / "x", source=both, image_column="present")


def test_a_dataset_without_masks_is_refused(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "source" / kind).mkdir(parents=True)
        (tmp_path / "source" / kind / "1.jpg").write_bytes(_image(1))
    with pytest.raises(
        UserError, match=r"needs a column of images and one of masks; it has image \(Image\), label \(Cl"
    ):
        prepare_hub(tmp_path / "out", source=tmp_path / "source")


def test_splits_are_chosen_by_name(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source")
    with pytest.raises(UserError, match=r'has no split "test" \(--val-split\); it has train, validation\.'):
        prepare_hub(tmp_path / "out", source=source, val_split="test")
    with pytest.raises(UserError, match=r'has no split "all" \(--train-split\)'):
        prepare_hub(tmp_path / "out", source=source, train_split="all")
    prepare_hub(tmp_path / "out", source=source, train_split="validation", val_split="train")
    _assert_pairs(tmp_path / "out", "train", [100, 101, 102])
    _assert_pairs(tmp_path / "out", "val", list(range(9)))


def test_rows_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    def mask(index: int) -> bytes | None:
        if index == 1:
            return None
        if index == 2:
            return _mask(np.zeros((5, 6), np.uint8))
        if index == 3:
            return _image(3)
        return _mask(_label(index))[:40] if index == 4 else _mask(_label(index))

    source = write_parquet(tmp_path / "source", mask=mask)
    with pytest.raises(UserError) as caught:
        prepare_hub(tmp_path / "out", source=source)
    said = str(caught.value)
    assert said.startswith("4 problems were found; nothing was written:")
    assert f'row 1 of split "train" of {source} has no mask in its column "annotation".' in said
    assert (
        f'The mask of row 2 of split "train" of {source} has 6 x 5 pixels, its image 40 x 32; they must be equal'
        in said
    )
    assert (
        f'The mask of row 3 of split "train" of {source} is a colour image (RGB); class indices in one channel' in said
    )
    assert "use `cascade-clip prepare-data folder --colours`" in said
    assert f'The mask of row 4 of split "train" of {source} cannot be read' in said
    assert not (tmp_path / "out").exists()


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='"nothing" is neither a folder nor a dataset on the Hub, written ORG/NAME'):
        prepare_hub(tmp_path / "out", source="nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot be read: .*A folder of Parquet files is expected, or an imagefolder"):
        prepare_hub(tmp_path / "out", source=tmp_path / "empty")
    with pytest.raises(UserError, match="has no revisions; --revision"):
        prepare_hub(tmp_path / "out", source=tmp_path / "empty", revision="main")
    source = write_parquet(tmp_path / "source")
    with pytest.raises(UserError, match="The configuration is chosen with --config"):
        prepare_hub(tmp_path / "out", source=source, config="other")


def test_a_lost_stream_leaves_finished_shards_and_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_parquet(tmp_path / "source", train=70)
    prepare_hub(tmp_path / "whole", source=source, stream=True)
    row, asked = RowCursor.row, []

    def counting(self: RowCursor, index: int) -> Any:
        asked.append(index)
        if len(asked) == 50:
            raise ConnectionError("the line is cut")
        return row(self, index)

    monkeypatch.setattr(RowCursor, "row", counting)
    with pytest.raises(UserError, match=r"cannot be read: the line is cut\. Check the network connection"):
        prepare_hub(tmp_path / "out", source=source, stream=True)
    assert not (tmp_path / "out").exists()
    before = len(asked)
    prepare_hub(tmp_path / "out", source=source, stream=True)
    assert asked[before] == 32  # the first shard has 32 rows
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def test_a_stream_with_more_rows_than_the_buffer_is_shuffled_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cascade_clip.data.foreign_rows.SHUFFLE_BUFFER", 4)
    files = [str(path) for path in sorted(write_parquet(tmp_path / "source", train=20).glob("data/*.parquet"))] * 3
    stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True).decode(False)
    orders = [[row["pixel_values"]["bytes"] for row in shuffled_rows(stream, (7, epoch))] for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(list(map(_image, [*range(20), 100, 101, 102])) * 3)
    assert orders[0] != [row["pixel_values"]["bytes"] for row in stream]


def test_a_changed_source_does_not_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_parquet(tmp_path / "source", train=40)

    def lost(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr("cascade_clip.data.foreign_rows._Cursor.row", lost)
        with pytest.raises(UserError, match="cannot be read: ConnectionError"):
            prepare_hub(tmp_path / "out", source=source, stream=True)
    os.utime(source / "data" / "train-0.parquet", (1, 1))
    with pytest.raises(UserError, match=r"An unfinished preparation of .* was made from other files or options"):
        prepare_hub(tmp_path / "out", source=source, stream=True)


def test_a_card_that_declares_other_counts(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source")
    for declared in (7, 11):
        splits = f"  - name: train\n    num_examples: {declared}\n  - name: validation\n    num_examples: 3\n"
        files = "  - split: train\n    path: data/train-*\n  - split: validation\n    path: data/validation-*\n"
        (source / "README.md").write_text(
            f"---\ndataset_info:\n  splits:\n{splits}configs:\n- config_name: default\n  data_files:\n{files}---\n"
        )
        with pytest.raises(
            UserError, match=f"does not have the {declared} rows that the dataset declares. Leave --stre"
        ):
            prepare_hub(tmp_path / "out", source=source, stream=True, overwrite=True)
        prepare_hub(tmp_path / "out", source=source, overwrite=True)
        _assert_pairs(tmp_path / "out", "train", list(range(9)))


# Read while training, without preparing.


def _open(source: Path, *, stream: bool = False, names: tuple[str, ...] | None = None) -> PreparedDataset:
    return PreparedDataset.open(dataset_folder(source, stream=stream, class_names=names))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("write", [write_imagefolder, write_parquet])
def test_records_are_converted_while_they_are_read(write: Callable[[Path], Path], tmp_path: Path, stream: bool) -> None:
    dataset = _open(write(tmp_path / "source"), stream=stream)
    assert (dataset.name, dataset.class_names, dataset.count("train"), dataset.count("val")) == ("source", NAMES, 9, 3)
    for part, first in (("train", 0), ("val", 100)):
        for index in (0, 1, 2, 1):
            record = dataset.read(part, index)  # type: ignore[arg-type]
            assert record.id.startswith(("train-", "validation-"))
            assert record.id.endswith(f"(p{first + index}.jpg)" if write is write_imagefolder else f"{index:06d}")
            assert record.image_bytes == _image(first + index)
            assert np.array_equal(decode_label(record.label_bytes), _label(first + index))
            assert record.present == sorted({(first + index) % 3, (first + index + 1) % 3})
    with pytest.raises(IndexError, match="val has 3 images"):
        dataset.read("val", 3)


def _batches(dataset: PreparedDataset, **options: int) -> list[dict[str, torch.Tensor]]:
    samples = TrainSamples(dataset, TrainTransform(CONFIG), seed=5)
    return list(train_loader(samples, steps=6, batch=4, **options))  # type: ignore[arg-type]


def _assert_same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first["id"] == second["id"]
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["label"], second["label"])


def test_rows_on_the_disk_come_in_the_order_of_a_prepared_dataset(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source")
    prepare_hub(tmp_path / "out", source=source)
    _assert_same(_batches(PreparedDataset.open(tmp_path / "out"), start_step=0), _batches(_open(source), start_step=0))


@pytest.mark.parametrize("write", [write_imagefolder, write_parquet])
def test_a_stream_is_shuffled_anew_each_epoch_and_resumes(write: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = _open(write(tmp_path / "source"), stream=True)
    epochs = [[dataset.read_shuffled(5, epoch, place).image_bytes for place in range(9)] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(map(_image, range(9))) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    whole = _batches(dataset, start_step=0)
    _assert_same(whole, _batches(_open(tmp_path / "source", stream=True), start_step=0, workers=2))
    for start in (1, 3):
        _assert_same(whole[start:], _batches(_open(tmp_path / "source", stream=True), start_step=start))
    halves = [_batches(dataset, start_step=0, rank=rank, world=2) for rank in range(2)]
    assert [batch["id"] for batch in whole] == [a["id"] + b["id"] for a, b in zip(*halves, strict=True)]


@pytest.mark.parametrize("stream", [False, True])
def test_training_reads_a_foreign_dataset_and_resumes(squares_recipe: Recipe, tmp_path: Path, stream: bool) -> None:
    source = write_imagefolder(tmp_path / "source")
    data = squares_recipe.data.model_copy(update={"dataset": source, "stream": stream})
    recipe = squares_recipe.model_copy(update={"data": data})

    def run(folder: Path, *, resume: bool = False) -> dict[str, torch.Tensor]:
        start_training(recipe, folder, device="cpu", resume=resume).train(resume=resume)
        return load_file(folder / "model" / "model.safetensors")

    whole = run(tmp_path / "run")
    (last,) = (tmp_path / "run" / "state").glob("step-00000006")
    last.rename(tmp_path / "dropped")
    resumed = run(tmp_path / "run", resume=True)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("validation" in line for line in lines)


def test_classes_of_a_split_count_where_the_dataset_names_none(tmp_path: Path) -> None:
    source = write_imagefolder(tmp_path / "source")
    (source / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"does not name its classes: give --split NAME, add a classes\.txt"):
        dataset_folder(source)
    assert PreparedDataset.open(locate_dataset("mine", source, class_names=NAMES)).class_names == NAMES
    (source / "classes.txt").write_text("a\nb\nc\n")
    found = PreparedDataset.open(locate_dataset("mine", source, class_names=NAMES))
    with pytest.raises(UserError, match='its class 0 is "a", the split\'s is "sky"'):
        found.check_classes(NAMES, "mine")


def test_a_row_that_does_not_fit_stops_training_in_one_sentence(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "source", mask=lambda index: _mask(np.full((30 + index % 3, 40), 7, np.uint8)))
    for stream in (False, True):
        with pytest.raises(
            UserError, match=r"^The mask of train-.* holds the value 7.*`cascade-clip prepare-data hub`\.$"
        ):
            _batches(_open(source, stream=stream), start_step=0, workers=1)


HUB_SESSION = """
import sys
from pathlib import Path
from cascade_clip.preparation.prepare_hub import prepare_hub
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.dataset_location import dataset_folder
for source in ("org/folder", "hub:org/parquet@main"):
    for stream in (False, True):
        output = Path(sys.argv[1]) / f"{source.partition('/')[2].partition('@')[0]}-{stream}"
        prepare_hub(output, source=source, stream=stream, classes=["sky", "tree", "road"])
for stream in (False, True):
    dataset = PreparedDataset.open(dataset_folder("hub:org/folder", stream=stream))
    print(dataset.place, dataset.read("val", 2).present, dataset.class_names)
"""


@pytest.mark.slow
def test_datasets_of_the_hub(tmp_path: Path) -> None:
    folder, parquet = write_imagefolder(tmp_path / "folder"), write_parquet(tmp_path / "parquet")
    with fake_hub(org__folder=folder, org__parquet=parquet) as hub:
        surroundings = {**os.environ, **hub.environment(tmp_path / "home")}
        command = [sys.executable, "-c", HUB_SESSION, str(tmp_path / "out")]
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for source in ("folder", "parquet"):
        plain, streamed = (tmp_path / "out" / f"{source}-{stream}" for stream in (False, True))
        assert _files(plain) == _files(streamed)
        _assert_pairs(plain, "train", list(range(9)))
    info = DatasetInfo.model_validate_json((plain / "dataset.json").read_bytes())
    assert (info.name, info.options["source"]) == ("parquet", f"hub:org/parquet@{COMMIT}")
    expected = f"hub:org/folder@{COMMIT} [0, 1] {NAMES}"
    assert done.stdout.splitlines() == [expected, expected]


def test_rows_are_picklable_and_know_their_source(tmp_path: Path) -> None:
    source = RowSource.find(write_parquet(tmp_path / "source"), stream=True)
    assert (source.name, str(source)) == ("source", str(tmp_path / "source"))
    assert pickle.loads(pickle.dumps(Rows(source))).splits == ("train", "validation")
    with pytest.raises(UserError, match=r'has no split "trian"\. Did you mean "train"'):
        Rows(source).count("trian")
