"""Runs of a table: each once, resumed, refused where another lies there, failures told, several at a time."""

import json
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from quick_runs import QuickCommands

from cascade_clip.errors import UserError
from cascade_clip.reproduce import runner
from cascade_clip.reproduce.plan import TablePlan
from cascade_clip.reproduce.results import collect
from cascade_clip.reproduce.runner import Commands, RunDevice, RunsState, devices_for_runs, run_all
from cascade_clip.reproduce.runs import Run

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

DEVICE = RunDevice(("--device", "cpu"))
Make = Callable[..., TablePlan]
ONE_ROW = 'title = "x"\nrows = [{ name = "a", recipe = "tiny.toml" }]\n'
TWO_MODES = """
title = "x"
rows = [
  { name = "a", recipe = "tiny.toml" },
  { name = "b", recipe = "tiny.toml", mode = "%s" },
]
"""


def _options(command: tuple[str, ...]) -> dict[str, str]:
    return dict(pairwise(command))


def test_layout(make_plan: Make, commands: QuickCommands, workplace: Path):
    plan = make_plan()
    assert plan.folder == workplace / "out" / "mine-no-blue"
    assert run_all(plan.runs, [DEVICE], commands) == {}
    folders = ["one-stage/seed0", "one-stage/seed1", "three-stages/seed0", "three-stages/seed1"]
    assert [_options(command)["--output"] for command in commands.commands] == [str(plan.folder / f) for f in folders]
    assert all(command[0] == "train" and command[-2:] == DEVICE.options for command in commands.commands)
    recipe = plan.rows[0].runs[1][1].recipe
    assert (recipe.seed, recipe.model.stages, recipe.data.split) == (1, ((4,),), str(workplace / "no-blue.toml"))


def test_equal_runs_are_done_once(make_plan: Make, commands: QuickCommands):
    plan = make_plan(TWO_MODES % "inductive", seeds=1)
    assert plan.rows[0].runs[0][1] is plan.rows[1].runs[0][1]
    run_all(plan.runs, [DEVICE], commands)
    other = make_plan(ONE_ROW, name="other", seeds=2)
    run_all(other.runs, [DEVICE], commands)
    folders = [str(plan.folder / "a" / "seed0"), str(other.folder / "a" / "seed1")]
    assert [_options(command)["--output"] for command in commands.commands] == folders
    shared = collect(other, {}).to_dict()["rows"][0]["runs"][0]
    assert (shared["folder"], shared["status"]) == ("../mine-no-blue/a/seed0", "finished")


def test_a_folder_with_another_run_is_refused(make_plan: Make, commands: QuickCommands):
    run_all(make_plan(ONE_ROW).runs, [DEVICE], commands)
    with pytest.raises(UserError) as caught:
        make_plan(ONE_ROW, overrides=["train.lr=0.5", "train.iterations=9"])
    message = str(caught.value)
    assert message.count("holds a run with other settings") == 2  # both seeds, in one message
    assert "train.iterations: 2 there, 9 here; train.lr: 0.0001 there, 0.5 here" in message
    assert "choose another --output" in message


def test_supervised_rows_train_on_all_classes_and_are_scored_on_the_split(make_plan: Make, commands: QuickCommands):
    plan = make_plan(TWO_MODES % "supervised", seeds=1)
    supervised = plan.rows[1].runs[0][1]
    assert supervised.recipe.data.split is None
    run_all(plan.runs, [DEVICE], commands)
    train, evaluate = commands.commands[1:]
    assert (train[0], evaluate[:2]) == ("train", ("eval", str(supervised.folder / "model")))
    assert _options(evaluate)["--split"] == supervised.split
    assert _options(evaluate)["--output"] == str(supervised.folder)
    assert supervised.figures()["miou_seen"] == pytest.approx(5)


def test_scores_of_another_evaluation_do_not_count(make_plan: Make, commands: QuickCommands):
    """`eval` may have been run by hand since, with other windows, on fewer images or another split."""
    (run,) = make_plan(TWO_MODES % "supervised", seeds=1).runs[1:]
    run_all([run], [DEVICE], commands)
    file = run.folder / "eval.json"
    record = json.loads(file.read_text())
    assert run.figures() is not None
    for change in ({"images": 2}, {"split": "squares"}, {"inference": {**record["inference"], "flip": True}}):
        file.write_text(json.dumps({**record, **change}))
        assert run.figures() is None, change
        assert run.next_command()[0] == "eval"


def test_a_validation_of_some_images_is_no_score(make_plan: Make, commands: QuickCommands):
    plan = make_plan(ONE_ROW, seeds=1, overrides=["train.validate_images=1"])
    run_all(plan.runs, [DEVICE], commands)
    assert [command[0] for command in commands.commands] == ["train", "eval"]


def test_training_free_rows_are_scored_once(make_plan: Make, commands: QuickCommands, squares: Path):
    text = 'title = "x"\nrows = [{ name = "free", mode = "training-free", model = "dense:bundled" }]\n'
    (run,) = make_plan(text, seeds=3).runs
    options = ("--split", run.split, "--data", str(squares), "--output", str(run.folder))
    assert run.next_command() == ("eval", "dense:bundled", *options)
    run.folder.mkdir(parents=True)
    (run.folder / "eval.json").write_text(json.dumps({"checkpoint": "dense-self:bundled"}))
    with pytest.raises(UserError, match='holds another run than the scores of "dense:bundled"'):
        make_plan(text)


def test_transductive_rows_need_unseen_classes(make_plan: Make, workplace: Path):
    file = workplace / "no-blue.toml"
    file.write_text(file.read_text().replace('unseen = ["blue"]', "unseen = []"))
    plan = make_plan(TWO_MODES % "transductive")
    assert [len(row.runs) for row in plan.rows] == [2, 0]
    result = collect(plan, {})
    assert '| b | – | – | – | – | not run: "no-blue" has no unseen classes to guess |' in result.to_markdown()
    assert result.to_dict()["rows"][1]["mean"] is None


def test_transductive_rows_start_from_the_inductive_run(make_plan: Make, commands: QuickCommands):
    """From that of the same table where it has one, else from one of their own; never before it is there."""
    plan = make_plan(TWO_MODES % "transductive", seeds=1)
    inductive, transductive = plan.runs
    assert transductive.init is inductive
    assert (inductive.steps, transductive.steps) == (2, 1)
    assert transductive.recipe.inference.seen_bias == 0
    run_all(plan.runs, [DEVICE, DEVICE], commands)
    assert [command[0] for command in commands.commands] == ["train", "self-train"]
    options = _options(commands.commands[1])
    assert options["--init"] == str(inductive.folder / "model-half")
    assert options["--output"] == str(plan.folder / "b" / "seed0")
    assert transductive.figures()["miou_seen"] == pytest.approx(40)
    alone = make_plan(TWO_MODES.replace('{ name = "a", recipe = "tiny.toml" },', "") % "transductive", name="alone")
    assert alone.runs[0].folder == inductive.folder  # lies under another table
    assert alone.runs[1].folder == alone.folder / "b" / "seed1-init"
    with pytest.raises(UserError, match="holds a run with other settings"):
        make_plan(TWO_MODES % "transductive", overrides=["train.lr=0.5"])


def test_ways_of_self_training_share_the_inductive_run(make_plan: Make):
    row = '{ name = "c", recipe = "tiny.toml", mode = "transductive", set.self_training.teacher = "fixed" }'
    ways = TWO_MODES.replace("\n]", f"\n  {row},\n]") % "transductive"
    inductive, released, fixed = make_plan(ways, seeds=1).runs
    assert released.init is fixed.init is inductive
    assert inductive.recipe.self_training is None
    assert inductive.recipe.inference.seen_bias == pytest.approx(0.1)
    assert [run.recipe.self_training.teacher for run in (released, fixed)] == ["self", "fixed"]
    inductive, *others = make_plan(ways, seeds=1, overrides=["self_training.threshold=0.5"]).runs
    assert inductive.recipe.self_training is None
    assert [run.recipe.self_training.threshold for run in others] == [0.5, 0.5]


def test_a_recipe_of_self_training_is_no_row(make_plan: Make, workplace: Path):
    text = (workplace / "tiny.toml").read_text()
    (workplace / "guess.toml").write_text(f'{text}\n[self_training]\nteacher = "self"\n')
    with pytest.raises(UserError, match="is a recipe for self-training: name that of the inductive run"):
        make_plan(ONE_ROW.replace("tiny.toml", "guess.toml"))


def test_a_killed_run_does_not_stop_the_others(make_plan: Make, commands: QuickCommands):
    quick = commands.act
    commands.act = lambda arguments, log: -9 if "one-stage" in arguments[-3] else quick(arguments, log)
    plan = make_plan()
    failures = run_all(plan.runs, [DEVICE], commands)
    reason = "The run was ended by signal 9: too little memory is a usual cause."
    assert [(failure.message, failure.code) for failure in failures.values()] == [(reason, -9)] * 2
    one_stage, three_stages = collect(plan, failures).rows
    assert one_stage.notes == ["0 of 2 seeds", f"seed 0 failed: {reason}", f"seed 1 failed: {reason}"]
    assert [run.status for run in (*one_stage.runs, *three_stages.runs)] == ["failed"] * 2 + ["finished"] * 2


def test_a_command_without_a_result_is_not_given_forever(make_plan: Make, commands: QuickCommands):
    commands.act = lambda arguments, log: 0
    failures = run_all(make_plan(ONE_ROW, seeds=1).runs, [DEVICE], commands)
    assert "ended without a result" in next(iter(failures.values())).message
    assert len(commands.commands) == 1


def test_devices_work_at_the_same_time(make_plan: Make, commands: QuickCommands):
    both, quick = threading.Barrier(2, timeout=20), commands.act

    def act(arguments: list[str], log: Path) -> int:
        both.wait()  # breaks where the two do not run together
        return quick(arguments, log)

    commands.act = act
    seen: list[RunsState] = []
    devices = [RunDevice((), {"CUDA_VISIBLE_DEVICES": str(number)}) for number in range(2)]
    assert run_all(make_plan(ONE_ROW).runs, devices, commands, seen.append) == {}
    assert {each["CUDA_VISIBLE_DEVICES"] for each in commands.environments} == {"0", "1"}
    assert (seen[-1].done, seen[-1].total, seen[-1].active) == (2, 2, ())


def test_ctrl_c_ends_what_is_under_way_and_begins_nothing(make_plan: Make, commands: QuickCommands):
    ended = threading.Event()
    commands.act = lambda arguments, log: 130 if ended.wait(20) else 0
    commands.stop = ended.set

    def interrupt(progress: RunsState) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="Interrupted; the same command continues"):
        run_all(make_plan().runs, [DEVICE], commands, interrupt)
    assert len(commands.commands) == 1


def test_every_cuda_device_gets_its_own_runs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = [each.environment["CUDA_VISIBLE_DEVICES"] for each in devices_for_runs(None, "auto", "bf16")]
    assert devices == ["0", "1"]
    assert devices_for_runs(None, "auto", "bf16")[0].options == ("--precision", "bf16", "--device", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    devices = [each.environment["CUDA_VISIBLE_DEVICES"] for each in devices_for_runs(3, "cuda", "fp32")]
    assert devices == ["5", "7", "5"]
    (only,) = devices_for_runs(None, "cuda:1", "fp32")
    assert (only.options[-1], only.environment) == ("cuda:1", {})


def test_a_cpu_does_one_run_with_all_its_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(runner, "usable_cores", lambda: 8)
    assert [each.environment for each in devices_for_runs(None, "cpu", "fp32")] == [{}]
    assert [each.environment for each in devices_for_runs(2, "cpu", "fp32")] == [{"OMP_NUM_THREADS": "4"}] * 2
    with pytest.raises(UserError, match="fp16"):
        devices_for_runs(None, "cpu", "fp16")


def test_interrupted_runs_are_resumed_to_the_same_figures(make_plan: Make, cli_commands: QuickCommands):
    """With the real commands: an inductive and a transductive run, both ended before their last step and continued."""
    plan = make_plan(TWO_MODES % "transductive", seeds=1, overrides=["train.iterations=4"])
    assert run_all(plan.runs, [DEVICE], cli_commands) == {}
    uninterrupted = [run.figures() for run in plan.runs]
    for run in plan.runs:
        _undo_last_step(run)
        assert (run.started, run.figures(), run.resumes_at) == (True, None, run.steps - 1)
    again = make_plan(TWO_MODES % "transductive", seeds=1, overrides=["train.iterations=4"]).runs
    assert run_all(again, [DEVICE], cli_commands) == {}
    assert [command[:2] for command in cli_commands.commands[2:]] == [("train", "--resume"), ("self-train", "--resume")]
    assert [run.figures() for run in again] == uninterrupted
    assert again[0].log.read_text().count("$ cascade-clip train") == 2


def _undo_last_step(run: Run) -> None:
    """Leave what a run leaves that is ended before its last step."""
    shutil.rmtree(run.folder / "model")
    shutil.rmtree(max((run.folder / "state").iterdir()))
    metrics = run.folder / "metrics.jsonl"
    lines = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] < run.steps]
    metrics.write_text("".join(f"{line}\n" for line in lines))


def test_commands_are_processes_that_stop_ends(tmp_path, monkeypatch):
    log = tmp_path / "log"
    commands, codes = Commands(), []
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\necho $MARK\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    thread = threading.Thread(target=lambda: codes.append(commands.run(["train"], log, {"MARK": "here"})))
    thread.start()
    while not log.exists() or "here" not in log.read_text():
        thread.join(0.05)
    commands.stop()
    thread.join(20)
    assert codes[0] in {-signal.SIGINT, -signal.SIGTERM}  # tests run as a background job ignore SIGINT
    assert commands.run(["train"], log, {"MARK": "again"}) == -signal.SIGTERM
    assert "again" not in log.read_text()  # nothing starts any more
