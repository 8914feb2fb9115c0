"""Self-training: who guesses and where, what is learnt from it, resuming, several processes, refusals."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import CLASSES, draw
from trained_runs import (
    Weights,
    assert_close_weights,
    assert_same_weights,
    changed,
    interrupt,
    log_lines,
    same,
    train_to_weights,
    without_dropout,
)

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe, SelfTrainingConfig
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.labelling import PseudoLabels, StudentPasses
from cascade_clip.training.run_training import self_training_recipe
from cascade_clip.training.start import start_training

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def make_recipe(inductive: Recipe, half_way: Path) -> MakeRecipe:
    """The recipe of a self-training of 6 steps."""

    def make(base: Recipe | None = None, *, init: Path | None = None, **config: object) -> Recipe:
        chosen = SelfTrainingConfig(init=str(init or half_way), **config)
        return changed(self_training_recipe(base or inductive, chosen), iterations=6)

    return make


class _Fixed(torch.nn.Module):
    """Gives the logits of its images' channels, and counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)
        self.passes = 0

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.dropout(image)


SEEN, UNSEEN, IGNORED = 0, 1, 255
LABEL = [[SEEN, UNSEEN, 2, IGNORED], [IGNORED, IGNORED, IGNORED, IGNORED]]
"""The second row is padding."""
LOGITS = [[[5.0] * 4] * 2, [[0.5, 0.5, 0.5, 0.5]] * 2, [[0.4, 0.4, 0.6, 0.6]] * 2]
"""Of red, which is seen, everywhere the best; then of green and blue."""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [SEEN, 1, 2, IGNORED]),
        ({"threshold": torch.sigmoid(torch.tensor(0.55)).item()}, [SEEN, IGNORED, 2, IGNORED]),
        ({"location": "unknown"}, [SEEN, 1, 2, 2]),
        ({"location": "unknown", "threshold": 0.99}, [SEEN, IGNORED, IGNORED, IGNORED]),
    ],
)
@pytest.mark.parametrize("teacher", [None, _Fixed()], ids=["itself", "teacher"])
def test_labels_by_hand(red_seen: str, teacher: _Fixed | None, config: dict, expected: list[int]):
    """Padding is never named, whatever the location of unseen pixels is taken for; a teacher drops nothing."""
    labeller = PseudoLabels(get_split(red_seen), SelfTrainingConfig(**config), teacher)
    label = torch.tensor([LABEL], dtype=torch.uint8)
    for hidden in labeller.hidden:
        label[label == hidden] = IGNORED
    batch = [{"image": torch.tensor([LOGITS]), "label": label, "extent": torch.tensor([[1, 4]]), "id": ["a"]}]
    network = _Fixed().eval()
    (labels,) = labeller.label(batch, StudentPasses(network, [batch[0]["image"]], torch.zeros(3, 8)))
    assert labels.tolist() == [[expected, [IGNORED] * 4]]
    assert labels.dtype == torch.int64
    assert labeller.fed == (0, 1, 2)
    assert labeller.hidden == ((1, 2) if "location" in config else ())


def test_guess_and_loss_share_the_dropout():
    """One micro-batch is passed once; several are passed twice alike, and go on as if they had been passed once."""
    network, images = _Fixed(), [torch.ones(2, 3, 4, 4) for _ in range(3)]
    for count in (1, 3):
        torch.manual_seed(0)
        passes = StudentPasses(network, images[:count], torch.zeros(3, 8))
        network.passes = 0
        ahead = passes.ahead()
        logits = [passes.logits(number) for number in range(count)]
        assert network.passes == (1 if count == 1 else 2 * count)
        assert all(map(torch.equal, ahead, logits))
        after = torch.rand(1)
        torch.manual_seed(0)
        assert all(torch.equal(network(image, None), expected) for image, expected in zip(images, logits, strict=False))
        assert torch.equal(torch.rand(1), after)
    assert not torch.equal(logits[0], logits[1])


TEACHERS = {"self": {}, "fixed": {}, "moving-average": {"decay": 0.5}}


@pytest.fixture(scope="module")
def taught(make_recipe: MakeRecipe, tmp_path_factory) -> dict[str, tuple[Path, Weights]]:
    """Folder and last weights of a run with each teacher."""
    folder = tmp_path_factory.mktemp("taught")
    recipes = {teacher: make_recipe(teacher=teacher, **config) for teacher, config in TEACHERS.items()}
    return {
        teacher: (folder / teacher, train_to_weights(changed(recipe, lr=1e-3), folder / teacher))
        for teacher, recipe in recipes.items()
    }


def test_result(taught: dict, make_recipe: MakeRecipe, half_way: Path):
    """The run differs from the inductive one, and its checkpoint says what it is."""
    folder, weights = taught["self"]
    model = CascadeCLIP.from_pretrained(folder / "model")
    assert model.recipe == changed(make_recipe(), lr=1e-3)
    assert model.recipe.inference.seen_bias == 0
    card = (folder / "model" / "README.md").read_text()
    assert f"Transductive: self-trained from `{half_way}`" in card
    assert "where they are came from the label maps" in card
    assert "Transductive" not in (half_way / "README.md").read_text()
    assert [line["step"] for line in log_lines(folder)] == [1, 2, 3, 4, 5, 6]
    assert not same(load_file(half_way / "model.safetensors"), weights)
    assert_same_weights(
        load_file(half_way / "model.safetensors"), load_file(folder / "model-start" / "model.safetensors")
    )


def test_licence_of_the_start_is_kept(make_recipe: MakeRecipe, half_way: Path, tmp_path):
    marked = shutil.copytree(half_way, tmp_path / "marked")
    config = json.loads((marked / "config.json").read_text())
    (marked / "config.json").write_text(json.dumps({**config, "licence": "cc-by-nc-4.0"}))
    trainer = start_training(make_recipe(init=marked), tmp_path / "run", device="cpu")
    assert trainer.model.licence == "cc-by-nc-4.0"


def test_moving_average_by_hand(make_recipe: MakeRecipe, half_way: Path, tmp_path):
    """It follows after every step, from the start's weights on; a fixed teacher is saved with no state."""
    recipe = changed(make_recipe(teacher="moving-average", decay=0.75), iterations=2, save_every=1)
    train_to_weights(recipe, tmp_path / "run")
    mean = load_file(half_way / "model.safetensors")
    for number in (1, 2):
        state = tmp_path / "run" / "state" / f"step-{number:08d}"
        weights, saved = load_file(state / "model.safetensors"), load_file(state / "teacher.safetensors")
        mean = {name: 0.75 * tensor + 0.25 * weights[name] for name, tensor in mean.items()}
        for name, tensor in mean.items():
            torch.testing.assert_close(saved[name], tensor, msg=lambda m, n=name: f"{n}: {m}")
    train_to_weights(changed(make_recipe(teacher="fixed"), iterations=1), tmp_path / "fixed")
    assert not list((tmp_path / "fixed" / "state").rglob("teacher.safetensors"))


@pytest.mark.parametrize(("teacher", "steps"), [("self", 1), ("moving-average", 3)])
def test_resume_is_bit_exact(taught: dict, make_recipe: MakeRecipe, half_way: Path, tmp_path, teacher: str, steps: int):
    """Before the first state and after it, also where the checkpoint that it started from is gone."""
    init = shutil.copytree(half_way, tmp_path / "init")
    recipe = changed(make_recipe(init=init, teacher=teacher, **TEACHERS[teacher]), lr=1e-3)
    interrupt(recipe, tmp_path / "run", steps)
    shutil.rmtree(init)
    assert_same_weights(taught[teacher][1], train_to_weights(recipe, tmp_path / "run", resume=True))


def test_two_processes_reach_the_same_weights(make_recipe: MakeRecipe, inductive: Recipe, tmp_path):
    """By `accelerate launch`, and where each accumulates: guesses are made ahead of the passes that are trained."""
    recipe = changed(make_recipe(without_dropout(inductive)), micro_batch=1, iterations=3)
    one = train_to_weights(recipe, tmp_path / "one")
    (tmp_path / "recipe.toml").write_text(dump_toml(recipe))
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "cascade_clip_cli", "self-train"]
    command = [sys.executable, *launch, "--recipe", tmp_path / "recipe.toml", "--init", recipe.self_training.init]
    command += ["--output", tmp_path / "two", "--device", "cpu", "--quiet"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert_close_weights(one, load_file(tmp_path / "two" / "model" / "model.safetensors"), within=1e-5)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory) -> Path:
    """The squares without any label of an unseen class: these pixels are ignored, as if nobody had named them."""

    def load(sample: ImageSource) -> tuple:
        image, label = draw(sample)
        label[label != 0] = 255
        return image, label

    folder = tmp_path_factory.mktemp("unlabelled") / "squares"
    parts = {
        "train": [ImageSource(f"t{i}", i) for i in range(10)],
        "val": [ImageSource(f"v{i}", 1000 + i) for i in range(3)],
    }
    write_prepared(folder, name="squares", classes=CLASSES, parts=parts, load=load)
    return folder


@pytest.mark.parametrize(("location", "equal"), [("unknown", True), ("known", False)])
def test_nothing_leaks_where_the_location_is_unknown(
    make_recipe: MakeRecipe, unlabelled: Path, tmp_path, location: str, equal: bool
):
    """Training gives the same weights whether the labels of unseen classes are there or not."""
    recipe = changed(make_recipe(location=location), iterations=2)
    without = recipe.changed(data={"dataset": unlabelled})
    assert same(train_to_weights(recipe, tmp_path / "with"), train_to_weights(without, tmp_path / "without")) is equal


def test_refusals(
    make_recipe: MakeRecipe, squares_recipe: Recipe, inductive: Recipe, half_way: Path, red_seen: str, tmp_path
):
    config = json.loads((half_way / "config.json").read_text())
    del config["recipe_and_split_sha256"]
    crimson = [{**config["split"]["classes"][0], "name": "crimson"}, *config["split"]["classes"][1:]]
    for name, change in (("supervised", {"unseen": []}), ("other", {"classes": crimson})):
        shutil.copytree(half_way, tmp_path / name)
        altered = {**config, "split": {**config["split"], **change}}
        (tmp_path / name / "config.json").write_text(json.dumps(altered))
    narrow = inductive.changed(model={"stages": ((4,),)})
    supervised = inductive.changed(data=squares_recipe.data)
    for recipe, message in [
        (make_recipe(supervised), 'The split "squares" has no unseen classes, so there is nothing for self-training'),
        (make_recipe(init=tmp_path / "nowhere"), "is no checkpoint folder: it does not exist"),
        (
            make_recipe(init=tmp_path / "supervised"),
            'was trained with labels of classes that the split "red-seen" calls unseen (blue, green): start from',
        ),
        (
            make_recipe(init=tmp_path / "other"),
            'was trained on the classes of the split "red-seen", which are not those of',
        ),
        (make_recipe(init="dense:bundled"), '"dense:bundled" is training-free'),
        (make_recipe(narrow), "does not fit the recipe's model; leave --recipe out to take its own. The tensors"),
        (self_training_recipe(inductive), "Self-training starts from a checkpoint: name its folder with --init"),
    ]:
        with pytest.raises(UserError) as caught:
            train_to_weights(recipe, tmp_path / "run")
        assert message in str(caught.value)
        assert not (tmp_path / "run").exists()
