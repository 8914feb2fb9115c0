"""Training-free methods on several benchmarks: what is planned, which CLIP, what the table says."""

import json
from pathlib import Path

import pytest

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.errors import UserError
from cascade_clip.evaluation.published_training_free import published_table
from cascade_clip.reproduce.plan import TablePlan, plan_tables
from cascade_clip.reproduce.results import BenchmarkTable, collect
from cascade_clip.reproduce.table_file import read_table

METHODS = ["CLIP", "MaskCLIP", "MaskCLIP, re-implemented", "GEM", "SCLIP", "ClearCLIP", "NACLIP", "NACLIP + PAMR"]
METHODS += ["ResCLIP", "SC-CLIP"]


def _prepared(folder: Path, name: str) -> None:
    """A prepared dataset of a benchmark as far as planning looks at it."""
    (folder / name).mkdir(parents=True)
    info = DatasetInfo(name=name, classes=get_split(name).class_names, options={}, sources=(), tool="test", parts={})
    (folder / name / "dataset.json").write_text(info.model_dump_json())


def _plan(folder: Path, split: str, **options: object) -> TablePlan:
    arguments = {"seeds": 3, "output": folder / "out", "data": str(folder / "data"), **options}
    (plan,) = plan_tables([read_table("training-free")], split, **arguments)  # type: ignore[arg-type]
    return plan


def _score(plan: TablePlan, row: str, miou: float) -> None:
    """What `eval` leaves of a finished run."""
    (planned,) = [each for each in plan.rows if each.row.shown == row]
    run = planned.runs[0][1]
    run.folder.mkdir(parents=True)
    scores = {"miou": miou, "miou_seen": miou, "miou_unseen": None, "hiou": None, "pixel_accuracy": 0.5}
    record = {"checkpoint": run.model, "split": plan.split, "images": 2, "images_of_the_set": 2, "scores": scores}
    (run.folder / "eval.json").write_text(json.dumps(record))


def test_each_method_is_scored_once_with_the_clip_of_the_datasets_recipes(tmp_path):
    for split, clip in (("voc-background", "ViT-B-16-quickgelu:openai"), ("shapes", "bundled")):
        _prepared(tmp_path / "data", split)
        plan = _plan(tmp_path, split)
        assert [row.row.shown for row in plan.rows] == METHODS
        assert {len(row.runs) for row in plan.rows} == {1}
        assert plan.rows[4].row.model == f"dense:{clip}?method=sclip"
        assert plan.rows[4].runs[0][1].next_command() == (
            *("eval", f"dense:{clip}?method=sclip", "--split", split, "--data", str(tmp_path / "data")),
            *("--output", str(tmp_path / "out" / f"training-free-{split}" / "sclip" / "seed0")),
        )


def test_naclip_is_scored_with_and_without_refinement(tmp_path):
    _prepared(tmp_path / "data", "voc")
    without, refined = _plan(tmp_path, "voc").rows[6:8]
    assert without.row.model == refined.row.model
    assert "--no-refine" in (without.runs[0][1].next_command() or ())
    assert "--refine" in (refined.runs[0][1].next_command() or ())
    assert ([entry.pamr for entry in without.published], [entry.pamr for entry in refined.published]) == (
        [False],
        [True],
    )


def test_another_clip_has_its_own_published_figures(tmp_path):
    _prepared(tmp_path / "data", "ade20k")
    plan = _plan(tmp_path, "ade20k", overrides=["clip.architecture=ViT-L-14-quickgelu"])
    assert plan.rows[-1].row.model == "dense:ViT-L-14-quickgelu:openai?method=scclip"
    assert [entry.miou["ade20k"] for entry in plan.rows[-1].published] == [21.7]
    assert _plan(tmp_path, "ade20k", overrides=["clip.weights=laion2b"]).rows[-1].published == ()
    with pytest.raises(UserError, match=r"trains nothing, so that train\.iterations=7 would change nothing"):
        _plan(tmp_path, "ade20k", overrides=["train.iterations=7"])


def test_what_is_not_prepared_says_how_to_make_it(tmp_path):
    plan = _plan(tmp_path, "cityscapes")
    assert plan.runs == []
    assert {
        row.reason for row in plan.rows if "cascade-clip prepare-data cityscapes --output" in (row.reason or "")
    } == {plan.rows[0].reason}
    table = BenchmarkTable((collect(plan, {}),))
    assert table.reasons == [f"Cityscapes: {plan.rows[0].reason}"]


def test_figures_stand_above_the_published_ones(tmp_path):
    for split in ("voc", "ade20k"):
        _prepared(tmp_path / "data", split)
    plans = [_plan(tmp_path, split) for split in ("voc", "ade20k", "coco")]
    _score(plans[0], "SC-CLIP", 0.8412)
    _score(plans[1], "SC-CLIP", 0.2)
    _score(plans[0], "SCLIP", 0.5)
    table = BenchmarkTable(tuple(collect(plan, {}) for plan in plans))
    headings, rows = table.cells()
    assert headings == ["", "VOC20", "ADE20K", "COCO-Stuff", "average"]
    by_name = {row[0].strip(): row[1:] for row in rows}
    assert by_name["SC-CLIP"] == ["84.1", "20.0", "–", "–"]
    assert by_name["published: SC-CLIP [g]"] == ["84.3", "20.1", "26.6", "43.7"]
    assert by_name["SCLIP"] == ["50.0", "–", "–", "–"]
    assert by_name["published: NACLIP, its repository + PAMR [f]"] == ["83.0", "19.1", "25.7", "42.6"]
    assert by_name["published: MaskCLIP, its repository [b]"] == ["49.5", "–", "12.5", "–"]
    assert "GEM" in by_name
    markdown = table.to_markdown()
    assert "| SC-CLIP | 84.1 | 20.0 | – | – |" in markdown
    assert "b: MaskCLIP repository, configs/maskclip/README.md" in markdown
    assert "CLIP: ViT-B-16-quickgelu:openai." in markdown
    assert "none of it was measured here" in markdown
    assert "COCO-Stuff: The prepared dataset" in markdown


def test_the_average_of_all_eight_is_the_published_one(tmp_path):
    plans = [_plan(tmp_path, split) for split in published_table().benchmarks]
    rows = {row[0].strip(): row for row in BenchmarkTable(tuple(collect(plan, {}) for plan in plans)).cells()[1]}
    assert rows["published: SC-CLIP [g]"][-1] == "43.9"
    assert rows["published: GEM [a, d]"][-1] == "–"
