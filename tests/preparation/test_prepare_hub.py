"""Preparing datasets in other people's layouts, with and without a stream."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from fake_hub import COMMIT, fake_hub
from foreign_data import NAMES, draw_image, draw_label, draw_mask, encode_mask, write_imagefolder, write_parquet
from prepared_folder import digests, ids

from cascade_clip.data import foreign_rows
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_hub import prepare_hub, row_ids

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


def _assert_pairs(folder: Path, part: Any, indices: list[int]) -> None:
    dataset = PreparedDataset.open(folder)
    assert dataset.count(part) == len(indices)
    for place, index in enumerate(indices):
        record = dataset.read(part, place)
        assert record.image_bytes == draw_image(index)
        assert np.array_equal(decode_label(record.label_bytes), draw_label(index))
        assert record.present == sorted({index % 3, (index + 1) % 3})


@pytest.mark.parametrize("write", [write_imagefolder, write_parquet])
def test_prepared_with_and_without_a_stream_to_the_same_bytes(write: Callable[[Path], Path], tmp_path):
    source = write(tmp_path / "source")
    info = prepare_hub(tmp_path / "streamed", source=str(source), stream=True, workers=4)
    assert not list((tmp_path / "hf-datasets").rglob("*.arrow"))
    assert (info.name, info.classes) == ("source", NAMES)
    _assert_pairs(tmp_path / "streamed", "train", list(range(9)))
    _assert_pairs(tmp_path / "streamed", "val", [100, 101, 102])
    prepare_hub(tmp_path / "plain", source=source, workers=2 if write is write_parquet else 1)
    assert digests(tmp_path / "plain") == digests(tmp_path / "streamed")


def test_rows_are_named_after_their_files_or_numbered(tmp_path):
    folder = write_imagefolder(tmp_path / "folder", validation=0)
    prepare_hub(tmp_path / "a", source=folder, val_fraction=0)
    assert PreparedDataset.open(tmp_path / "a").read("train", 4).id == "p4"
    parquet = write_parquet(tmp_path / "parquet", validation=0)
    prepare_hub(tmp_path / "b", source=parquet, val_fraction=0)
    assert PreparedDataset.open(tmp_path / "b").read("train", 4).id == "train-000004"
    assert row_ids(["/x/a/1.png", "/x/b/1.png"], 2, "train") == ["a/1", "b/1"]
    assert row_ids(["zip://a/1.png::hf://x", "zip://a/2.png::hf://x"], 2, "train") == ["1", "2"]
    assert row_ids(["zip://a/1.png::/x.zip", "/x/2.png"], 2, "train") == ["zip://a/1", "/x/2"]
    assert row_ids(["/x/1.png", "/x/1.jpg"], 2, "train") == ["train-000000", "train-000001"]


def test_without_a_validation_split_one_is_drawn(tmp_path):
    source = write_parquet(tmp_path / "source", validation=0)
    info = prepare_hub(tmp_path / "out", source=source, val_fraction=0.3, seed=4)
    assert {part: content.images for part, content in info.parts.items()} == {"train": 6, "val": 3}
    found = ids(tmp_path / "out")
    assert sorted(found["train"] + found["val"]) == [f"train-{index:06d}" for index in range(9)]


def test_class_names_come_from_the_user_a_file_or_the_features(tmp_path):
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
    for content, message in (
        ('{"1": "e"}', r"numbers its classes 1, \.\.\.: they must count up by one from 0"),
        ("{", r"is no valid JSON"),
        ('{"0": "e", "1": "e"}', r': classes: the name "e" is listed 2 times'),
    ):
        (source / "id2label.json").write_text(content)
        with pytest.raises(UserError, match=rf"id2label\.json:? {message.removeprefix(':').lstrip()}"):
            classes()


def test_one_class_label_an_image_names_no_classes(tmp_path):
    source = write_imagefolder(tmp_path / "source")
    (source / "classes.txt").unlink()
    with pytest.raises(UserError, match="does not name its classes: give them with --classes or --classes-file"):
        prepare_hub(tmp_path / "out", source=source)
    parquet = write_parquet(tmp_path / "parquet", scene=(datasets.ClassLabel(names=["indoor", "outdoor"]), 0))
    assert prepare_hub(tmp_path / "out", source=parquet).classes == NAMES


def test_columns_are_found_by_type_and_name(tmp_path):
    source = write_parquet(tmp_path / "a", columns=("photo", "semantic_mask"))
    assert prepare_hub(tmp_path / "out", source=source).options["columns"] == ["photo", "semantic_mask"]
    odd = write_parquet(tmp_path / "b", columns=("image", "what"))
    assert prepare_hub(tmp_path / "odd", source=odd).options["columns"] == ["image", "what"]
    both = write_parquet(
        tmp_path / "c",
        columns=("image", "mask"),
        segmentation=(datasets.Image(), {"bytes": draw_mask(1), "path": None}),
    )
    with pytest.raises(UserError, match=r"several columns of images \(image, mask, segmentation\); say which one"):
        prepare_hub(tmp_path / "both", source=both)
    prepare_hub(tmp_path / "both", source=both, label_column="mask")
    _assert_pairs(tmp_path / "both", "train", list(range(9)))
    with pytest.raises(UserError, match=r'--label-column "maks": this column of .* is not there\. Did you mean "mask"'):
        prepare_hub(tmp_path / "x", source=both, label_column="maks")
    with pytest.raises(UserError, match=r'--image-column "present": this column of .* holds List'):
        prepare_hub(tmp_path / "x", source=both, image_column="present")
    (tmp_path / "d" / "cat").mkdir(parents=True)
    (tmp_path / "d" / "cat" / "1.jpg").write_bytes(draw_image(1))
    with pytest.raises(UserError, match=r"needs a column of images and one of masks; it has image \(Image\)"):
        prepare_hub(tmp_path / "x", source=tmp_path / "d")


def test_a_split_that_is_left_out_is_named(tmp_path, caplog):
    source = write_imagefolder(tmp_path / "source")
    (source / "validation").rename(source / "test")
    caplog.set_level("INFO", logger="cascade_clip")
    prepare_hub(tmp_path / "out", source=source)
    assert f"Of the splits of {source} these are left out: test." in caplog.text


def test_splits_are_chosen_by_name_and_a_subset_takes_the_first(tmp_path):
    source = write_parquet(tmp_path / "source")
    with pytest.raises(UserError, match=r'has no split "test" \(--val-split\); it has train, validation\.'):
        prepare_hub(tmp_path / "out", source=source, val_split="test")
    with pytest.raises(UserError, match=r'has no split "all" \(--train-split\)'):
        prepare_hub(tmp_path / "out", source=source, train_split="all")
    prepare_hub(tmp_path / "out", source=source, train_split="validation", val_split="train", subset=2)
    _assert_pairs(tmp_path / "out", "train", [100, 101])
    _assert_pairs(tmp_path / "out", "val", [0, 1])


def test_rows_that_do_not_fit_are_all_named(tmp_path):
    def mask(index: int) -> bytes | None:
        if index == 1:
            return None
        if index == 2:
            return encode_mask(np.zeros((5, 6), np.uint8))
        if index == 3:
            return draw_image(3)
        return draw_mask(index)[:40] if index == 4 else draw_mask(index)

    source = write_parquet(tmp_path / "source", mask=mask)
    with pytest.raises(UserError) as caught:
        prepare_hub(tmp_path / "out", source=source)
    said = str(caught.value)
    assert said.startswith("4 problems were found; nothing was written:")
    assert f'row 1 of split "train" of {source} has no mask in its column "annotation".' in said
    assert (
        f'The mask of row 2 of split "train" of {source} has 6 x 5 pixels, its image has 40 x 32; they must be equal'
        in said
    )
    assert f'The mask of row 3 of split "train" of {source} is a JPEG file, a format that may change' in said
    assert f'The mask of row 4 of split "train" of {source} cannot be read' in said
    assert not (tmp_path / "out").exists()


def test_masks_that_are_none_are_told_by_the_first(tmp_path):
    source = write_parquet(tmp_path / "source", mask=draw_image)
    with pytest.raises(UserError, match=r'^The mask of row 0 of split "train" of .* is a JPEG file'):
        prepare_hub(tmp_path / "out", source=source)


def test_sources_that_are_none(tmp_path):
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


def test_a_lost_stream_continues_after_its_finished_shards_unless_the_source_changed(tmp_path, monkeypatch):
    source = write_parquet(tmp_path / "source", train=40, validation=1)
    prepare_hub(tmp_path / "whole", source=source, stream=True)
    rows_from, started = foreign_rows._rows_from, []

    def cut(stream: Any, index: int) -> Iterator[Any]:
        started.append(index)
        yield from islice(rows_from(stream, index), 36 if len(started) == 1 else 3 if len(started) == 2 else None)
        if len(started) <= 2:
            raise ConnectionError("the line is cut")

    monkeypatch.setattr(foreign_rows, "_rows_from", cut)
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be read: the line is cut\. Check the network connection"):
            prepare_hub(tmp_path / "out", source=source, stream=True)
        assert not (tmp_path / "out").exists()
    changed = source / "data" / "train-0.parquet"
    before = changed.stat()
    os.utime(changed, (1, 1))
    with pytest.raises(UserError, match=r"An unfinished preparation of .* was made from other files or options"):
        prepare_hub(tmp_path / "out", source=source, stream=True)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    prepare_hub(tmp_path / "out", source=source, stream=True)
    assert started[:3] == [0, 32, 32]  # the first shard has 32 rows
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_card_that_declares_other_counts(tmp_path):
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


def test_datasets_of_the_hub(tmp_path, monkeypatch):
    folder, parquet = write_imagefolder(tmp_path / "folder"), write_parquet(tmp_path / "parquet")
    with fake_hub(org__folder=folder, org__parquet=parquet) as hub:
        hub.take_the_hubs_place(monkeypatch, tmp_path / "home")
        for source in ("org/folder", "hub:org/parquet@main"):
            for kind in ("streamed", "plain"):
                info = prepare_hub(tmp_path / kind, source=source, stream=kind == "streamed", overwrite=True)
            assert digests(tmp_path / "plain") == digests(tmp_path / "streamed")
            _assert_pairs(tmp_path / "plain", "train", list(range(9)))
    assert (info.name, info.options["source"]) == ("parquet", f"hub:org/parquet@{COMMIT}")
