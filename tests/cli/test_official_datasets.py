"""Each benchmark's miniature, from official archives to masks, with its real recipe and split names."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code
from official_miniatures import (
    COCO_VALUES,
    pack,
    write_coco,
    write_context_images,
    write_context_mats,
    write_sbd,
    write_voc,
)

from cascade_clip.data.prepared import PreparedDataset

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

SIZE = (96, 128)
# The real recipes on the CLIP that is at hand, small and short.
SMALL = [
    "clip.architecture=bundled",
    "data.short_side=64",
    "data.long_side=256",
    "data.crop=64",
    "inference.crop=64",
    "inference.stride=48",
    "model.decoder.heads=4",
    "train.iterations=2",
    "train.batch=2",
    "train.workers=0",
]


def _cells(*values: int) -> np.ndarray:
    """Four upright stripes."""
    return np.repeat(np.array([values]), SIZE[1] // 4, axis=1).repeat(SIZE[0], axis=0)


def _coco(folder: Path) -> Path:
    masks = {f"{i:012d}": _cells(*COCO_VALUES[i : i + 3], 255).astype(np.uint8) for i in range(0, 12, 3)}
    stems = list(masks)
    return write_coco(
        folder, train={stem: masks[stem] for stem in stems[:2]}, val={stem: masks[stem] for stem in stems[2:]}
    )


def _voc(folder: Path) -> Path:
    mask = _cells(0, 1, 20, 255).astype(np.uint8)
    kit = write_voc(folder / "kit", train={"2007_000032": mask}, val={"2007_000033": mask})
    pack(kit, folder / "VOCtrainval_11-May-2012.tar")
    added = _cells(0, 5, 6, 7).astype(np.uint8)
    release = write_sbd(folder / "sbd", train={"2008_000100": added}, val={"2008_000101": added})
    pack(release, folder / "benchmark.tgz")
    return folder


def _context(folder: Path) -> Path:
    ids = {stem: _cells(0, 2, 9, 454).astype(np.uint16) for stem in ("2008_000002", "2008_000003")}
    sizes = list(ids.items())
    kit = write_context_images(folder / "kit", train={sizes[0][0]: SIZE}, val={sizes[1][0]: SIZE}, voc={})
    pack(kit, folder / "VOCtrainval_03-May-2010.tar")
    pack(write_context_mats(folder / "labels", ids), folder / "trainval.tar.gz")
    return folder


@pytest.mark.parametrize(
    ("name", "write", "split", "classes"),
    [
        ("coco", _coco, "coco-seen", 171),
        ("voc", _voc, "voc-seen", 20),
        ("context", _context, "context-released-seen", 59),
    ],
)
def test_prepared_trained_and_scored(
    name: str, write: Callable[[Path], Path], split: str, classes: int, tmp_path, capsys
):
    source, data = write(tmp_path / "official"), tmp_path / "data"
    options = ["--subset", 2, "--workers", 1, "--quiet"]
    assert exit_code("prepare-data", name, "--source", source, "--output", data, *options) == 0
    dataset = PreparedDataset.open(data)
    assert (dataset.name, len(dataset.class_names)) == (name, classes)
    assert min(dataset.count("train"), dataset.count("val")) >= 1
    assert not list(tmp_path.glob(".*"))
    settings = [part for setting in SMALL for part in ("--set", setting)]
    on = ["--split", split, "--data", data, "--quiet"]
    recipe = f"{name}/cascade-zegclip"
    assert exit_code("train", "--recipe", recipe, *on, "--output", tmp_path / "run", *settings) == 0
    capsys.readouterr()
    assert exit_code("eval", tmp_path / "run" / "model", *on, "--json", "-") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["split"], len(result["scores"]["classes"])) == (split, classes)
    assert 0 <= result["scores"]["pixel_accuracy"] <= 1
