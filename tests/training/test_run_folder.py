"""A run begins whole or not at all, and is resumed only from what it was."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_data import write_tiny_dataset
from trained_runs import changed, interrupt

from cascade_clip.checkpoint.description import hash_of_settings, read_config
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split, split_for_dataset_folder
from cascade_clip.errors import UserError
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.training.labelling import SeenLabels
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.run_training import train
from cascade_clip.training.start import start_training

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture(scope="module")
def stopped(squares_recipe: Recipe, tmp_path_factory) -> Path:
    """A run of six steps that was stopped after five, with states of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    interrupt(squares_recipe, folder, 5)
    return folder


@pytest.fixture
def run(stopped: Path, tmp_path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(stopped, tmp_path / "run")))


@pytest.fixture
def split(squares: Path) -> Split:
    return split_for_dataset_folder(squares)


def test_an_interrupted_start_is_begun_anew(squares_recipe: Recipe, squares: Path, split: Split, tmp_path):
    run = RunFolder(tmp_path / "run")

    def killed() -> None:
        (run.folder / "model-start").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.start(squares_recipe, squares, split, before=killed)
    with pytest.raises(UserError, match="so there is nothing to resume"):
        run.recipe()
    run.start(squares_recipe, squares, split)
    assert run.recipe() == squares_recipe
    assert not run.start_model.exists()


@pytest.mark.parametrize("name", ["notes.txt", "pictures", "model-start", "recipe.toml", "environment.json"])
def test_a_folder_with_other_files_even_of_a_runs_names_is_left_alone(
    name: str, squares_recipe: Recipe, squares: Path, split: Split, tmp_path
):
    if "." in name:
        (tmp_path / name).write_text("{}")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.jpg").touch()
    for overwrite in (False, True):
        with pytest.raises(UserError, match=rf'is not empty and holds no run \(there is "{name}"\): choose another'):
            RunFolder(tmp_path).start(squares_recipe, squares, split, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "mine.jpg").exists() or "." in name


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(run: RunFolder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("cascade_clip.output_folder.cache_folder", lambda: tmp_path / "file")
    (run.folder / "environment.json").unlink()  # nor does one without a record of its dataset
    assert train(None, run.folder, device="cpu", resume=True).steps == 6


def test_a_state_goes_on_with_as_many_processes_and_may_lack_keys_of_the_recipe(run: RunFolder):
    file = run.state_folder(4) / "progress.json"
    progress = json.loads(file.read_text())
    del progress["sha256"], progress["recipe"]["train"]["power"]
    two = progress | {"processes": 2}
    file.write_text(json.dumps(two | {"sha256": hash_of_settings(two)}))
    with pytest.raises(UserError, match=r"trained by 2 processes, whose .* do not fit 1: resume with --nproc 2"):
        train(None, run.folder, device="cpu", resume=True)
    file.write_text(json.dumps(progress | {"sha256": hash_of_settings(progress)}))
    assert train(None, run.folder, device="cpu", resume=True).steps == 6


def test_overwriting_moves_the_old_run_aside_and_keeps_what_no_run_writes(
    run: RunFolder, squares_recipe: Recipe, squares: Path, split: Split
):
    (run.folder / "notes.txt").write_text("mine")
    shutil.copytree(run.folder / "state", run.folder / "track")

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.start(squares_recipe, squares, split, overwrite=True, before=killed)
    with pytest.raises(UserError, match="nothing to resume"):
        run.recipe()  # never the old run, half of it
    run.start(squares_recipe, squares, split, overwrite=True)
    assert {path.name for path in run.folder.iterdir()} == {
        *("recipe.toml", "environment.json", "metrics.jsonl", "notes.txt")
    }
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit_progress(state: Path) -> None:
    progress = json.loads((state / "progress.json").read_text())
    (state / "progress.json").write_text(json.dumps(progress | {"best": 0.99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: _flip(state / "model.safetensors"), "model.safetensors is not what was saved"),
        (lambda state: (state / "random_states_0.pkl").unlink(), "random_states_0.pkl is missing"),
        (lambda state: (state / "progress.json").write_text("{"), "progress.json cannot be read"),
        (_edit_progress, "progress.json was changed"),
        (lambda state: state.rename(state.with_name("step-00000005")), r"progress\.json is that of step 4"),
    ],
)
def test_a_damaged_state_is_refused_and_a_sound_one_named(run: RunFolder, damage: Callable[[Path], None], message: str):
    damage(run.state_folder(4))
    with pytest.raises(UserError, match=rf"{message}.*delete that folder to resume from step-00000002"):
        train(None, run.folder, device="cpu", resume=True)


def test_a_state_of_an_earlier_version_is_taken_as_it_is(run: RunFolder):
    progress = run.state_folder(4) / "progress.json"
    progress.write_text(json.dumps({"step": 4, "best": None, "processes": 1}))
    assert train(None, run.folder, device="cpu", resume=True).steps == 6


def test_a_recipe_that_was_edited_is_refused(run: RunFolder):
    run.recipe_file.write_text(run.recipe_file.read_text().replace("\nbatch = 4", "\nbatch = 2"))
    with pytest.raises(UserError, match=r"was changed since the run was interrupted \(train.batch was 4, is 2\)"):
        train(None, run.folder, device="cpu", resume=True)


def test_another_dataset_or_split_is_refused(squares_recipe: Recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = write_tiny_dataset(tmp_path / "data")
    file = tmp_path / "mine.toml"
    file.write_text(
        'dataset = "squares"\nclasses = [{name="red"}, {name="green"}, {name="blue"}]\n[splits.s]\nunseen = []'
    )
    interrupt(squares_recipe.changed(data={"dataset": dataset, "split": "mine.toml"}), tmp_path / "run", 3)
    monkeypatch.chdir("/")  # the split's path is stored whole
    file.write_text(file.read_text().replace("unseen = []", 'unseen = ["blue"]'))
    with pytest.raises(UserError, match="its classes, or which of them are unseen, have changed"):
        train(None, tmp_path / "run", device="cpu", resume=True)
    file.write_text(file.read_text().replace('unseen = ["blue"]', "unseen = []"))
    info = dataset / "dataset.json"
    content = info.read_text()
    assert '"tool": "' in content
    info.write_text(content.replace('"tool": "', '"tool": "later '))
    assert start_training(None, tmp_path / "run", device="cpu", resume=True)  # only another version prepared it
    own = json.loads(content)["content_sha256"]
    info.write_text(content.replace(f'"{own}"', "null"))
    assert start_training(None, tmp_path / "run", device="cpu", resume=True)  # a version that hashed no content
    info.write_text(content.replace(own, "another image"))
    with pytest.raises(UserError, match=r"its dataset\.json names other classes, images, masks or shards"):
        train(None, tmp_path / "run", device="cpu", resume=True)
    shutil.rmtree(dataset)
    write_tiny_dataset(dataset, train=11)
    with pytest.raises(UserError, match=r"is not the one that the run in .* began with: its dataset.json names other"):
        train(None, tmp_path / "run", device="cpu", resume=True)


@pytest.mark.parametrize("readable", [True, False])
def test_another_prompt_is_refused_where_it_is_trained_with(
    readable: bool, squares_recipe: Recipe, squares: Path, split: Split, tmp_path
):
    text = squares_recipe.text.model_copy(update={"readable": readable})
    run = RunFolder(tmp_path / "run")
    run.start(squares_recipe.model_copy(update={"text": text}), squares, split)
    other = dataclasses.replace(split, classes=(dataclasses.replace(split.classes[0], prompt="x"), *split.classes[1:]))
    with pytest.raises(UserError, match="began with: its prompts have changed") if readable else nullcontext():
        run.check_unchanged(squares, other, "squares", "")


def test_another_precision_is_told(squares_recipe: Recipe, squares: Path, split: Split, tmp_path, caplog):
    run = RunFolder(tmp_path / "run")
    run.start(squares_recipe, squares, split, precision="bf16")
    run.check_unchanged(squares, split, "squares", "", "bf16")
    assert "precision" not in caplog.text
    run.check_unchanged(squares, split, "squares", "", "fp32")
    assert "The run began with --precision bf16 and goes on with fp32." in caplog.text


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_does_not_go_on_with_another_clip(recorded: bool, run: RunFolder, squares: Path, split: Split):
    """Recorded with the run; earlier versions recorded it with the run's models only."""
    content = json.loads(run.environment_file.read_text())
    own = content.pop("clip_sha256")
    assert train(None, run.folder, device="cpu", resume=True).steps == 6
    assert read_config(run.model).clip.sha256 == own
    run.environment_file.write_text(json.dumps(content | ({"clip_sha256": "other"} if recorded else {})))
    if not recorded:
        run.check_unchanged(squares, split, "squares", own)
    with pytest.raises(UserError, match=r"CLIP's weights are not those that the run in .* began with"):
        run.check_unchanged(squares, split, "squares", "another")


@pytest.mark.parametrize(
    ("settings", "steps"), [({"save_every": 5}, None), ({"save_every": 5, "validate_every": 2}, None), ({}, 1)]
)
def test_weights_that_are_not_finite_are_not_saved(
    settings: dict[str, int], steps: int | None, squares_recipe: Recipe, tmp_path, monkeypatch
):
    """Neither as the half-way model, nor as the best, nor in a state that a limit of steps asks for."""

    def poison(_labeller: SeenLabels, network: CascadeNetwork) -> None:
        for tensor in network.own_tensors().values():
            tensor.fill_(float("nan"))

    monkeypatch.setattr(SeenLabels, "follow", poison)
    monkeypatch.setattr("cascade_clip.training.loop.Meter.add", lambda *_args, **_options: None)
    with pytest.raises(UserError, match=r"the weights .* hold values that are not finite .*--set train\.lr="):
        train(changed(squares_recipe, **settings), tmp_path / "run", device="cpu", steps=steps)
    assert not [*(tmp_path / "run").glob("model*"), *(tmp_path / "run").glob("state/step*")]


def test_a_refused_start_leaves_the_folder_free(run: RunFolder, squares_recipe: Recipe):
    with pytest.raises(UserError, match="A run lies in") as refused:
        train(squares_recipe, run.folder, device="cpu")
    assert refused.value.__traceback__ is not None  # holds the refused run's lock, if nothing released it
    assert train(None, run.folder, device="cpu", resume=True).steps == 6


def test_a_folder_in_which_a_process_trains_is_refused(run: RunFolder):
    run.hold()
    with pytest.raises(UserError, match="Another process is training in"):
        train(None, run.folder, device="cpu", resume=True)
    run.release()
    assert train(None, run.folder, device="cpu", resume=True).steps == 6
