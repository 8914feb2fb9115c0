"""Text and Markdown of results, against tables written by hand."""

import json
from collections.abc import Callable

import pytest
from quick_runs import QuickCommands

from cascade_clip.reproduce.plan import TablePlan, plan_tables
from cascade_clip.reproduce.results import collect
from cascade_clip.reproduce.runner import Failure, RunDevice, run_all
from cascade_clip.reproduce.table_file import read_table

Make = Callable[..., TablePlan]
DEVICE = RunDevice(())


def test_markdown_over_seeds(make_plan: Make, commands: QuickCommands):
    plan = make_plan(seeds=2)
    run_all(plan.runs[:3], [DEVICE], commands)
    failed = plan.runs[3]
    failure = Failure("Out of memory | really.\nMore of it.", 1, failed.log)
    assert collect(plan, {failed.folder: failure}).to_markdown().splitlines() == [
        "### Squares (no-blue)",
        "",
        "Percent; mean ± sample standard deviation over 2 seeds; 2 training steps.",
        "",
        "|  | seen mIoU | unseen mIoU | hIoU | pixel acc. |  |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
        "| one stage | 45.0 ± 7.1 | 25.0 ± 7.1 | 30.0 ± 0.0 | 50.0 ± 0.0 |  |",
        "| three stages | 40.0 | 20.0 | 30.0 | 50.0 | 1 of 2 seeds; seed 1 failed: Out of memory \\| really. |",
    ]


def test_figures_that_do_not_exist(make_plan: Make, commands: QuickCommands):
    """A split without unseen classes has neither unseen mIoU nor hIoU, and a seed that has not run has nothing."""
    scores = {"miou_seen": 0.4, "miou_unseen": None, "hiou": None, "pixel_accuracy": 0.5}
    commands.scores = lambda folder, command: scores
    plan = make_plan(seeds=1)
    run_all(plan.runs[:1], [DEVICE], commands)
    result = collect(plan, {})
    assert result.to_markdown().splitlines()[2] == "Percent; one seed; 2 training steps."
    assert [cells[1:5] for cells in result.cells()[1]] == [["40.0", "–", "–", "50.0"], ["–"] * 4]
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["rows"][0]["mean"] == {"miou_seen": 40.0, "miou_unseen": None, "hiou": None, "pixel_accuracy": 50.0}
    assert [row["runs"][0]["status"] for row in record["rows"]] == ["finished", "to run"]


def test_the_papers_figures_stand_beside_and_quoted_rows_are_marked(tmp_path):
    (plan,) = plan_tables([read_table("table2")], "voc-seen", seeds=1, output=tmp_path)
    lines = collect(plan, {}).to_markdown().splitlines()
    assert "|  | seen mIoU | unseen mIoU | hIoU | pixel acc. | paper: seen / unseen / hIoU |  |" in lines
    assert "| *inductive* |  |  |  |  |  |  |" in lines
    assert "| ZegFormer | – | – | – | – | 86.4 / 63.6 / 73.3 | quoted |" in lines
    assert "| Cascade-CLIP | – | – | – | – | 92.7 / 83.1 / 87.7 | 0 of 1 seeds |" in lines
    assert lines.index("| *transductive* |  |  |  |  |  |  |") > lines.index("| *inductive* |  |  |  |  |  |  |")


@pytest.mark.parametrize(
    ("table", "split", "said"),
    [
        ("table8", "coco-seen", "Beside: the paper's Table 8, coco-seen."),
        ("table8", "voc-seen", "The paper's Table 8 has figures for coco-seen only, so none are shown here."),
        (
            "table1",
            "shapes-seen",
            "The paper's Table 1 has figures for coco-seen and voc-seen only, so none are shown here.",
        ),
    ],
)
def test_whose_figures_stand_beside_is_said(tmp_path, table: str, split: str, said: str):
    (plan,) = plan_tables([read_table(table)], split, seeds=1, output=tmp_path)
    assert collect(plan, {}).caption.endswith(said)


def test_json_record(make_plan: Make, commands: QuickCommands):
    plan = make_plan(seeds=2)
    run_all(plan.runs, [DEVICE], commands)
    record = collect(plan, {}).to_dict()
    row = record.pop("rows")[0]
    assert record == {"table": "mine", "title": "Squares", "split": "no-blue", "paper": None}
    # 40 and 50 seen, 20 and 30 unseen: the mean, and the root of (25 + 25) / (2 - 1).
    assert row["mean"]["miou_seen"] == pytest.approx(45)
    assert row["standard_deviation"]["miou_unseen"] == pytest.approx(50**0.5)
    assert row["runs"][1] == {
        "seed": 1,
        "status": "finished",
        "folder": "one-stage/seed1",
        "steps": 2,
        "figures": pytest.approx({"miou_seen": 50, "miou_unseen": 30, "hiou": 30, "pixel_accuracy": 50}),
        "error": None,
    }
