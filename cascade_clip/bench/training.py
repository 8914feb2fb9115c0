"""`bench train`: the step that `Trainer` makes, beside the bare tower's forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.utils.data import default_collate

from cascade_clip.bench.counting import count_parameters
from cascade_clip.bench.model import bare_tower, load_bench_model
from cascade_clip.bench.pictures import drawn_dataset
from cascade_clip.bench.plain import plain_step
from cascade_clip.bench.predicting import median_rooms
from cascade_clip.bench.rooms import RoomClock, network_rooms, optimizer_rooms
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.timing import WARM_UP_ROUNDS, Turns, now
from cascade_clip.bench.workload import PLAIN, TOWER, Workload
from cascade_clip.config.recipes import change_recipe
from cascade_clip.data.samples import TrainSample, TrainSamples
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.training.labelling import Labeller, SeenLabels, StudentPasses
from cascade_clip.training.loop import Trainer, Validation
from cascade_clip.training.optimizer import build_optimizer
from cascade_clip.training.run_folder import RunFolder

STEP = "training step"
_FAR = 10**6
"""Steps of a run that is stopped long before it would save, log or validate."""
_IMAGES, _IMAGE_SIZE = 8, (480, 640)
"""The images that crops are cut from: as large as COCO's."""
_ACCELERATE_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


class _EnoughError(Exception):
    """Ends a run of the trainer after the steps that were asked for."""


class TimedSteps:
    """Stands in for the trainer's labeller, which opens and closes every step, and times what lies between.

    A step's first act is to ask for labels, its last to let the labeller follow the new weights.
    """

    def __init__(self, labels: Labeller, steps: int, clock: RoomClock, done: Callable[[float], None]) -> None:
        """Pass labels on; after each step call `done` with its seconds, after `steps` of them end the run."""
        self.labels, self.steps, self.clock, self.done = labels, steps, clock, done
        self.fed, self.hidden, self.kept = labels.fed, labels.hidden, labels.kept
        self._begin = 0.0

    def label(self, batch: Sequence[TrainSample], passes: StudentPasses) -> list[Tensor]:
        """The labels, at the beginning of a step."""
        self.clock.enter("labels, checks")
        self._begin = now(self.clock.device)
        return self.labels.label(batch, passes)

    def follow(self, network: CascadeNetwork) -> None:
        """The end of a step."""
        self.labels.follow(network)
        seconds = now(self.clock.device) - self._begin
        self.clock.enter(None)
        self.done(seconds)
        self.steps -= 1
        if not self.steps:
            raise _EnoughError
        self.clock.enter("data")


class TrainWorkload(Workload):
    """A step from images and labels on the host to new weights; reading and augmenting images is a room of its own."""

    def __init__(self, settings: BenchSettings, folder: Path) -> None:
        """Load the model and draw the images into a folder.

        Raises:
            UserError: As `load_bench_model`; a training-free model, a crop that is not square or does not fit the
                patches, or a plain path that does not exist.
        """
        height, width = settings.size
        if height != width:
            raise UserError(f"Training crops are square; got --size {height}x{width}.")
        model, self.split = load_bench_model(settings)
        if not isinstance(model.network, CascadeNetwork):
            raise UserError(f'"{model.recipe.name}" is training-free: there is no training step to measure.')
        if height % model.network.patch_size:
            raise UserError(
                f"The crop of {height} pixels is no multiple of this CLIP's patches of {model.network.patch_size}."
            )
        super().__init__(model.device)
        self.batch = settings.batch or 1
        self.settings, self.model, self.network, self.folder = settings, model, model.network, folder
        names = self.split.class_names
        self.dataset = drawn_dataset(
            folder / "drawn", size=_IMAGE_SIZE, names=names, train=_IMAGES, val=0, seed=settings.seed
        )
        changes = [f"data.crop={height}", f"train.batch={self.batch}", "train.workers=0"]
        changes += [f"train.{key}={_FAR}" for key in ("iterations", "save_every", "log_every")]
        model.recipe = change_recipe(model.recipe, [*changes, *(["train.compile=true"] if settings.compiled else [])])
        self.labeller = SeenLabels(self.split)
        self.text = model.text_embeddings_for(self.split)[list(self.labeller.fed)]
        self.add(TOWER, bare_tower(model, settings.size, self.batch), self.batch)
        self.add(STEP, lambda: self.train(1), self.batch)
        if settings.plain:
            self._add_plain()

    def measure(self, turns: Turns, rounds: int) -> None:
        """Train for as many steps, and between them let the other subjects have their turns."""

        def others(seconds: float) -> None:
            turns.add(STEP, seconds)
            for name, call in self.subjects.items():
                if name != STEP:
                    turns.take(name, call)

        self.train(rounds, others)

    def run(self, name: str) -> None:
        """Train a few steps, or let another subject work."""
        if name == STEP:
            self.train(3)
        else:
            super().run(name)

    def rooms(self, rounds: int) -> Mapping[str, float]:
        """Median seconds a step of data, labels, tower, head, loss, backward and optimiser."""
        clock, passes = RoomClock(self.device), []

        def keep(_: float) -> None:
            passes.append(dict(clock.seconds))
            clock.seconds.clear()

        with network_rooms(self.network, clock, afterwards="loss"), optimizer_rooms(clock, afterwards="labels, checks"):
            self.train(WARM_UP_ROUNDS + rounds, keep, clock)
        return median_rooms(passes[WARM_UP_ROUNDS:])

    def facts(self) -> dict[str, Any]:
        """Classes, parameters, and how many images a loader process can read and augment in a second."""
        self.network.eval()
        samples = TrainSamples(self.dataset, TrainTransform(self.model.recipe.data), self.settings.seed)
        begin = time.perf_counter()
        for position in range(_IMAGES):
            samples[position]
        return {
            "classes": len(self.text),
            "parameters": count_parameters(self.network, self.text),
            "images_per_second_of_a_loader": _IMAGES / (time.perf_counter() - begin),
        }

    def train(self, steps: int, done: Callable[[float], None] = lambda _: None, clock: RoomClock | None = None) -> None:
        """Let a trainer make so many steps, then stop it; nothing is written.

        Args:
            steps: At least 1.
            done: Called after each step with its seconds.
            clock: Moved through the rooms of each step.
        """
        AcceleratorState._reset_state()
        accelerator = Accelerator(
            mixed_precision=_ACCELERATE_PRECISION[self.model.dtype], cpu=self.device.type == "cpu"
        )
        timed = TimedSteps(self.labeller, steps, clock or RoomClock(self.device), done)
        validation = Validation(self.split, self.dataset)
        run = RunFolder(self.folder / "run")
        trainer = Trainer(accelerator, self.model, self.split, self.dataset, validation, timed, run)
        with ExitStack() as undo:
            if clock is not None:
                _clock_backward(accelerator, clock)
            undo.callback(self.network.eval)
            try:
                trainer.train()
            except _EnoughError:
                return

    def _add_plain(self) -> None:
        recipe = self.model.recipe
        if recipe.region_loss != "dice":
            raise UserError(
                f'"{recipe.name}" learns with {recipe.region_loss}, which has no plain path: leave --plain.'
            )
        optimizer = build_optimizer(self.network, recipe.train)
        samples = TrainSamples(self.dataset, TrainTransform(recipe.data), self.settings.seed)
        batch = default_collate([samples[position] for position in range(self.batch)])
        image, labels = batch["image"].to(self.device), batch["label"].to(self.device).long()

        def step() -> None:
            self.network.train()
            plain_step(self.network, optimizer, image, labels, self.text, recipe.loss, self.model.dtype)

        self.add(f"{STEP}, {PLAIN}", step, self.batch)


def _clock_backward(accelerator: Accelerator, clock: RoomClock) -> None:
    """Let this accelerator's backward pass move the clock."""
    backward = accelerator.backward

    def clocked(loss: Tensor, **options: Any) -> None:
        clock.enter("backward")
        backward(loss, **options)
        clock.enter("labels, checks")

    accelerator.backward = clocked
