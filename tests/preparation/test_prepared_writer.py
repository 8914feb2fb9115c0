"""Writing prepared datasets: the same bytes always, resumed after a kill, nothing half-written."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from crashes import tree
from PIL import Image
from prepared_folder import digests

from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import encode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.masks import ImageWithMask, IndexMasks, MaskLoader
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_tree import Entry

COUNT = 70
"""Three shards: 32 + 32 + 6."""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(folder / f"{index:02d}.jpg")
        Image.fromarray(rng.integers(0, 2, (6, 8), dtype=np.uint8)).save(folder / f"{index:02d}.png")
    return folder


def samples(files: Path) -> list[ImageSource]:
    """All pairs of the folder in order."""
    return [
        ImageSource(path.stem, ImageWithMask(Entry.of(path), Entry.of(path.with_suffix(".png"))))
        for path in sorted(files.glob("*.jpg"))
    ]


def write(output: Path, files: Path, **options: object) -> DatasetInfo:
    """Prepare all pairs as training images of the classes a and b."""
    arguments: dict[str, object] = {
        "name": "pairs",
        "classes": ["a", "b"],
        "parts": {"train": samples(files)},
        "load": MaskLoader(IndexMasks(2)),
    }
    return write_prepared(output, **(arguments | options))  # type: ignore[arg-type]


def test_bytes_do_not_depend_on_the_workers(files: Path, tmp_path):
    write(tmp_path / "one", files)
    write(tmp_path / "two", files, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert list(digests(tmp_path / "one")) == [
        "README.md",
        *(f"data/train-{i:05d}-of-00003.parquet" for i in range(3)),
        "dataset.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_the_content_has_a_hash(tmp_path):
    """Masks that are swapped change neither counts nor bytes."""
    label = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2
    hashes = set()
    for number, (first, second) in enumerate(((0, 1), (1, 0), (0, 1))):
        parts = {"train": [ImageSource("a", first), ImageSource("b", second)]}
        load = lambda sample: (encode_label(label), (label + sample.payload) % 2)  # noqa: E731
        info = write_prepared(tmp_path / str(number), name="x", classes=["c", "d"], parts=parts, load=load)
        hashes.add(info.content_sha256)
    assert len(hashes) == 2


def test_counts_and_pixels_are_reported(files: Path, tmp_path):
    calls: list[tuple[int, int, str]] = []
    info = write(tmp_path / "out", files, progress=lambda *call: calls.append(call))
    masks = np.stack([np.array(Image.open(path)) for path in sorted(files.glob("*.png"))])
    part = info.parts["train"]
    assert part.images == COUNT
    assert part.pixels == ((masks == 0).sum(), (masks == 1).sum())
    assert (part.smallest, part.largest) == ((6, 8), (6, 8))
    assert [call[:2] for call in calls] == [(32, 70), (64, 70), (70, 70)]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == info.model_dump(mode="json")
    assert pq.ParquetFile(tmp_path / "out" / next(iter(part.shards))).num_row_groups == 4  # of eight images each


def test_sizes_colours_and_ignored_pixels_are_reported(tmp_path):
    def draw(source: ImageSource) -> tuple[bytes, np.ndarray]:
        label = np.ones(source.payload, np.uint8)
        label[0] = 255
        return b"image", label

    told: list[object] = []
    sizes = [(3, 3), *[(4, 5)] * 32, (9, 9)]  # two shards
    parts = {"train": [ImageSource(str(number), size) for number, size in enumerate(sizes)], "val": []}
    more = {"colours": [(1, 2, 3), (4, 5, 6)], "review": told.append, "picture": lambda at: told.append(tree(at))}
    info = write(tmp_path / "out", tmp_path, parts=parts, load=draw, **more)
    part = info.parts["train"]
    assert (part.smallest, part.largest, part.pixels, part.ignored_pixels) == ((3, 3), (9, 9), (0, 558), 172)
    assert info.colours == ((1, 2, 3), (4, 5, 6))
    assert told[0] == info
    assert "dataset.json" in told[1]
    assert PreparedDataset.open(tmp_path / "out").read("train", 0).present == [1]
    assert "split: val" not in (tmp_path / "out" / "README.md").read_text()


def _interrupted(output: Path, files: Path) -> None:
    def stop(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(output, files, progress=stop)


def test_an_interrupted_run_continues_without_redoing_shards(files: Path, tmp_path):
    output = tmp_path / "out"
    _interrupted(output, files)
    assert not output.exists()
    (finished,) = (tmp_path / ".out.preparing" / "data").glob("*.parquet")
    changed = finished.stat().st_mtime_ns
    (finished.parent / ".left.part").touch()
    write(output, files)
    assert (output / "data" / finished.name).stat().st_mtime_ns == changed
    write(tmp_path / "straight", files)
    assert digests(output) == digests(tmp_path / "straight")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "straight"]


def test_an_unfinished_run_of_other_input_is_not_mixed_in(files: Path, tmp_path, monkeypatch):
    output = tmp_path / "out"
    (tmp_path / ".out.preparing").mkdir()  # killed before it wrote what it is made from
    _interrupted(output, files)
    others = [{"classes": ["a", "c"]}, {"name": "x"}, {"options": {"x": 1}}, {"colours": [(1, 2, 3), (4, 5, 6)]}]
    for other in (*others, {"parts": {"val": samples(files)}}):
        with pytest.raises(UserError, match="was made from other files or options"):
            write(output, files, **other)
    with monkeypatch.context() as patched:
        patched.setattr("cascade_clip.__version__", "0")
        with pytest.raises(UserError, match="was made from other files or options"):
            write(output, files)
    os.utime(files / "00.jpg", ns=(0, (files / "00.jpg").stat().st_mtime_ns + 1))
    with pytest.raises(UserError, match="was made from other files or options"):
        write(output, files)
    info = write(output, files, classes=["a", "c"], overwrite=True)
    assert info.classes == ("a", "c")


@pytest.mark.parametrize("damaged", ["shard", "report"])
def test_an_unfinished_shard_without_content_or_hash_is_written_again(files: Path, tmp_path, damaged: str):
    _interrupted(tmp_path / "out", files)
    shard = tmp_path / ".out.preparing" / "data" / "train-00000-of-00003.parquet"
    if damaged == "shard":
        shard.write_bytes(b"")
    else:  # as an earlier version wrote it
        (report,) = [
            path for path in (tmp_path / ".out.preparing").rglob("*.json") if "content_sha256" in path.read_text()
        ]
        report.write_text(json.dumps({**json.loads(report.read_text()), "content_sha256": ""}))
    write(tmp_path / "out", files)
    write(tmp_path / "straight", files)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_a_dataset_is_replaced_and_files_beside_it_are_kept(files: Path, tmp_path):
    output = tmp_path / "out"
    write(output, files)
    mine = ["notes/a.txt", "data/b.txt", ".hidden", "data/train.parquet"]
    for name in mine:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text(name)
    with pytest.raises(UserError, match="holds a prepared dataset: replace it with --overwrite, or choose another"):
        write(output, files)
    assert write(output, files, classes=["a", "c"], overwrite=True).classes == ("a", "c")
    assert [(output / name).read_text() for name in mine] == mine
    assert len(digests(output)) == 5 + len(mine)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_working_folder_is_not_replaced(files: Path, tmp_path, monkeypatch):
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    with pytest.raises(UserError, match=r"contains the working folder and cannot be replaced: .* such as \"dataset\""):
        write(Path(), files)
    assert list(tmp_path.rglob("*")) == [tmp_path / "here", tmp_path / "here" / "below"]


def test_two_at_once_do_not_disturb_each_other(files: Path, tmp_path):
    def second(done: int, total: int, note: str) -> None:
        with pytest.raises(UserError, match=r"Another process is writing \".*out\": wait until it ends"):
            write(tmp_path / "out", files)

    write(tmp_path / "out", files, progress=second)
    write(tmp_path / "straight", files)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def _refuse(sample: ImageSource) -> tuple[bytes, np.ndarray]:
    raise UserError(f"{sample.id} is broken.")


def test_every_refused_sample_is_counted_and_nothing_stays(files: Path, tmp_path):
    with pytest.raises(UserError) as caught:
        write(tmp_path / "out", files, load=_refuse)
    assert str(caught.value).splitlines() == [
        "70 problems were found, of one kind; nothing was written:",
        "  00 is broken.",
        "    The same in all 70 images, for example 01, 02, 03.",
    ]
    assert list(tmp_path.iterdir()) == []


def test_an_index_outside_the_classes_is_refused(files: Path, tmp_path):
    with pytest.raises(UserError, match=r'The label of "00" holds the index 1, which is none of 1 class \(0 to 0'):
        write(tmp_path / "out", files, classes=["a"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": []}, "classes: there is none"),
        ({"classes": ["a", "a"]}, 'the name "a" is listed 2 times'),
        ({"parts": {"train": []}}, "There is no image to prepare"),
        ({"parts": {"train": [ImageSource("x", 1), ImageSource("x", 2)]}}, 'train: the id "x" is used more than once'),
    ],
)
def test_names_are_checked_first(files: Path, tmp_path, changed: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "out", files, **changed)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_finished_shards_alone(files: Path, tmp_path):
    def full(source: ImageSource) -> tuple[bytes, np.ndarray]:
        if source.id == "40":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return MaskLoader(IndexMasks(2))(source)

    with pytest.raises(UserError, match=r"The disk is full: .*out could not be completed"):
        write(tmp_path / "out", files, load=full)
    assert not (tmp_path / "out").exists()
    left = sorted(path.name for path in (tmp_path / ".out.preparing" / "data").iterdir())
    assert left == ["train-00000-of-00003.json", "train-00000-of-00003.parquet"]
    assert write(tmp_path / "out", files).images == COUNT


def test_an_unwritable_place_is_named(files: Path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out could not be written: Not a directory"):
        write(tmp_path / "file" / "out", files)
