"""Self-training: who guesses and where, what is learnt from it, resuming, several processes, refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import CLASSES, draw, write_tiny_dataset

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe, SelfTrainingConfig
from cascade_clip.config.self_training import self_training_recipe
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training import loop
from cascade_clip.training.labels import PseudoLabels, StudentPasses
from cascade_clip.training.start import start_training

Weights = dict[str, torch.Tensor]
MakeRecipe = Callable[..., Recipe]


def _train(recipe: Recipe, folder: Path, **options: object) -> Weights:
    start_training(recipe, folder, device="cpu", **options).train(resume=bool(options.get("resume")))
    return load_file(folder / "model" / "model.safetensors")


def _same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _assert_close(one: Weights, other: Weights) -> None:
    for name, tensor in one.items():
        # The bias of keys has no gradient but rounding noise, which AdamW amplifies (golden README).
        if not name.endswith(".k.bias"):
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def _changed(recipe: Recipe, **train: object) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=train)})


def _without_dropout(recipe: Recipe) -> Recipe:
    model = recipe.model
    prompts = model.prompts.model_copy(update={"dropout": 0.0})
    decoder = model.decoder.model_copy(update={"dropout": 0.0})
    return recipe.model_copy(update={"model": model.model_copy(update={"prompts": prompts, "decoder": decoder})})


@pytest.fixture(scope="module")
def red_seen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A split of the squares in which green and blue are unseen."""
    file = tmp_path_factory.mktemp("splits") / "red-seen.toml"
    names = ", ".join(f'{{ name = "{name}" }}' for name in CLASSES)
    file.write_text(f'dataset = "squares"\nclasses = [{names}]\n[splits.red-seen]\nunseen = ["green", "blue"]\n')
    return str(file)


@pytest.fixture(scope="module")
def inductive(squares_recipe: Recipe, red_seen: str) -> Recipe:
    """The recipe whose labels are of seen classes only."""
    data = squares_recipe.data.model_copy(update={"split": red_seen})
    return squares_recipe.model_copy(update={"data": data})


@pytest.fixture(scope="module")
def half_way(inductive: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of half-way through its run."""
    folder = tmp_path_factory.mktemp("inductive") / "run"
    _train(inductive, folder)
    return folder / "model-half"


@pytest.fixture(scope="module")
def make_recipe(inductive: Recipe, half_way: Path) -> MakeRecipe:
    """The recipe of a self-training of 6 steps."""

    def make(base: Recipe | None = None, *, init: Path | None = None, **config: object) -> Recipe:
        chosen = SelfTrainingConfig(init=str(init or half_way), **config)
        return _changed(self_training_recipe(base or inductive, chosen), iterations=6)

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
def test_labels_by_hand(red_seen: str, config: dict, expected: list[int]) -> None:
    """Padding is never named, whatever the location of unseen pixels is taken for."""
    labeller = PseudoLabels(get_split(red_seen), SelfTrainingConfig(**config))
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


def test_guess_and_loss_share_the_dropout() -> None:
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


def test_what_is_learnt_from(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All classes are fed, seen labels stay, and N counts the classes after guessing (SPEC sections 6 and 7)."""
    calls: list[tuple[torch.Size, torch.Tensor, float]] = []
    real = loop.segmentation_loss

    def spy(logits: torch.Tensor, labels: torch.Tensor, *, num_masks: float, **options: object) -> object:
        calls.append((logits.shape, labels, num_masks))
        return real(logits, labels, num_masks=num_masks, **options)

    monkeypatch.setattr(loop, "segmentation_loss", spy)
    _train(_changed(make_recipe(), micro_batch=3, iterations=2), tmp_path / "run")
    assert [shape[:2] for shape, _, _ in calls] == [(3, 3), (1, 3)] * 2
    for first, second in (calls[:2], calls[2:]):
        images = [*first[1], *second[1]]
        assert first[2] == second[2] == sum(len(set(image.unique().tolist()) - {255}) for image in images)
        assert any(set(image.unique().tolist()) & {1, 2} for image in images)


def test_result(make_recipe: MakeRecipe, half_way: Path, tmp_path: Path) -> None:
    """The run differs from the inductive one, and its checkpoint says what it is."""
    recipe = make_recipe()
    _train(recipe, tmp_path / "run")
    model = CascadeCLIP.from_pretrained(tmp_path / "run" / "model")
    assert model.recipe == recipe
    assert model.recipe.inference.seen_bias == 0
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"Transductive: self-trained from `{half_way}`" in card
    assert "where they are came from the label maps" in card
    assert "Transductive" not in (half_way / "README.md").read_text()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert not _same(
        load_file(half_way / "model.safetensors"), load_file(tmp_path / "run" / "model" / "model.safetensors")
    )
    assert _same(
        load_file(half_way / "model.safetensors"), load_file(tmp_path / "run" / "model-start" / "model.safetensors")
    )


def test_licence_of_the_start_is_kept(make_recipe: MakeRecipe, half_way: Path, tmp_path: Path) -> None:
    marked = shutil.copytree(half_way, tmp_path / "marked")
    config = json.loads((marked / "config.json").read_text())
    (marked / "config.json").write_text(json.dumps({**config, "licence": "cc-by-nc-4.0"}))
    _train(make_recipe(init=marked), tmp_path / "run")
    assert CascadeCLIP.from_pretrained(tmp_path / "run" / "model").licence == "cc-by-nc-4.0"


TEACHERS = [{"teacher": "self"}, {"teacher": "fixed"}, {"teacher": "moving-average", "decay": 0.5}]


def test_teachers_differ(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    runs = [
        _train(_changed(make_recipe(**config), lr=1e-3), tmp_path / f"run{number}")
        for number, config in enumerate(TEACHERS)
    ]
    assert not any(_same(one, other) for one, other in (runs[:2], runs[1:], runs[::2]))


def test_moving_average_by_hand(make_recipe: MakeRecipe, half_way: Path, tmp_path: Path) -> None:
    """It follows after every step, from the start's weights on; a fixed teacher is saved with no state."""
    recipe = _changed(make_recipe(teacher="moving-average", decay=0.75), iterations=2, save_every=1)
    _train(recipe, tmp_path / "run")
    mean = load_file(half_way / "model.safetensors")
    for step in (1, 2):
        state = tmp_path / "run" / "state" / f"step-{step:08d}"
        weights, saved = load_file(state / "model.safetensors"), load_file(state / "teacher.safetensors")
        mean = {name: 0.75 * tensor + 0.25 * weights[name] for name, tensor in mean.items()}
        for name, tensor in mean.items():
            torch.testing.assert_close(saved[name], tensor, msg=lambda m, n=name: f"{n}: {m}")
    _train(_changed(make_recipe(teacher="fixed"), iterations=1), tmp_path / "fixed")
    assert not list((tmp_path / "fixed" / "state").rglob("teacher.safetensors"))


@pytest.mark.parametrize("config", TEACHERS, ids=lambda config: config["teacher"])
@pytest.mark.parametrize("killed_after", [1, 3])
def test_resume_is_bit_exact(
    make_recipe: MakeRecipe, half_way: Path, tmp_path: Path, config: dict, killed_after: int
) -> None:
    """Before the first state and after it, also where the checkpoint that it started from is gone."""
    init = shutil.copytree(half_way, tmp_path / "init")
    recipe = _changed(make_recipe(init=init, **config), micro_batch=3)
    whole = _train(recipe, tmp_path / "whole")

    def stop(report: loop.TrainReport) -> None:
        if report.step == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_training(recipe, tmp_path / "run", device="cpu", watch=stop).train()
    shutil.rmtree(init)
    assert _same(whole, _train(recipe, tmp_path / "run", resume=True))


def _host(recipe: Recipe, host: str) -> Recipe:
    changes: dict[str, object] = {"host": host}
    if host == "spt-seg":
        changes["decoder"] = recipe.model.decoder.model_copy(update={"heads": 8, "gate": "open"})
        changes["spectral"] = recipe.model.spectral.model_copy(update={"grid": 4})
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})


@pytest.mark.parametrize("host", ["zegclip", "spt-seg", "frozen-clip"])
def test_every_host_with_accumulation(inductive: Recipe, make_recipe: MakeRecipe, tmp_path: Path, host: str) -> None:
    base = _without_dropout(_host(inductive, host))
    _train(_changed(base, iterations=2), tmp_path / "inductive")
    recipe = make_recipe(base, init=tmp_path / "inductive" / "model-half")
    whole = _train(recipe, tmp_path / "whole")
    _assert_close(whole, _train(_changed(recipe, micro_batch=3), tmp_path / "parts"))


def test_two_processes_reach_the_same_weights(make_recipe: MakeRecipe, inductive: Recipe, tmp_path: Path) -> None:
    """Also where each of them accumulates, so that its guesses are made ahead of the passes that are trained."""
    recipe = _changed(make_recipe(_without_dropout(inductive)), micro_batch=1)
    one = _train(recipe, tmp_path / "one")
    (tmp_path / "recipe.toml").write_text(dump_toml(recipe))
    command = [sys.executable, "-m", "cascade_clip_cli", "self-train", "--recipe", tmp_path / "recipe.toml"]
    command += ["--init", recipe.self_training.init, "--output", tmp_path / "two", "--device", "cpu", "--nproc", "2"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    _assert_close(one, load_file(tmp_path / "two" / "model" / "model.safetensors"))


def test_bf16(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    weights = _train(make_recipe(teacher="fixed"), tmp_path / "run", precision="bf16")
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.mark.parametrize(("location", "same"), [("unknown", True), ("known", False)])
def test_nothing_leaks_where_the_location_is_unknown(
    make_recipe: MakeRecipe, unlabelled: Path, tmp_path: Path, location: str, same: bool
) -> None:
    """Training gives the same weights whether the labels of unseen classes are there or not."""
    recipe = make_recipe(location=location)
    without = recipe.model_copy(update={"data": recipe.data.model_copy(update={"dataset": unlabelled})})
    assert _same(_train(recipe, tmp_path / "with"), _train(without, tmp_path / "without")) is same


def test_learns_the_unseen_class(squares_recipe: Recipe, red_seen: str, tmp_path: Path) -> None:
    """Of a single unseen class every guess is right, so that it is learnt as if it were labelled."""
    file = tmp_path / "no-green.toml"
    file.write_text(Path(red_seen).read_text().replace(', "blue"]', "]"))
    more = write_tiny_dataset(tmp_path / "squares", train=30, val=12)
    data = squares_recipe.data.model_copy(update={"split": str(file), "dataset": more})
    base = _changed(squares_recipe.model_copy(update={"data": data}), iterations=40, lr=2e-3, save_every=200)
    before = start_training(base, tmp_path / "inductive", device="cpu").train()
    recipe = self_training_recipe(base, SelfTrainingConfig(init=str(tmp_path / "inductive" / "model-half")))
    after = start_training(_changed(recipe, iterations=120), tmp_path / "run", device="cpu").train()
    assert before.miou_unseen < 0.4
    assert after.miou_unseen > 0.6
    assert after.miou_seen > 0.7


def test_refusals(
    make_recipe: MakeRecipe, squares_recipe: Recipe, inductive: Recipe, half_way: Path, red_seen: str, tmp_path: Path
) -> None:
    _train(_changed(squares_recipe, iterations=2), tmp_path / "supervised")
    other = shutil.copytree(half_way, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["split"]["classes"][0]["name"] = "crimson"
    (other / "config.json").write_text(json.dumps(config))
    model = inductive.model
    narrow = inductive.model_copy(update={"model": model.model_copy(update={"stages": ((4,),)})})
    supervised = inductive.model_copy(update={"data": squares_recipe.data})
    for recipe, message in [
        (make_recipe(supervised), 'The split "squares" has no unseen classes, so there is nothing for self-training'),
        (make_recipe(init=tmp_path / "nowhere"), "is no checkpoint folder: it does not exist"),
        (
            make_recipe(init=tmp_path / "supervised" / "model"),
            'was trained with labels of classes that the split "red-seen" calls unseen (blue, green): start from',
        ),
        (make_recipe(init=other), 'was trained on the classes of the split "red-seen", which are not those of'),
        (make_recipe(init="dense:bundled"), '"dense:bundled" is training-free'),
        (make_recipe(narrow), "does not fit the recipe's model; leave --recipe out to take its own. The tensors"),
        (self_training_recipe(inductive), "Self-training starts from a checkpoint: name its folder with --init"),
    ]:
        with pytest.raises(UserError) as caught:
            _train(recipe, tmp_path / "run")
        assert message in str(caught.value)
        assert not (tmp_path / "run").exists()
