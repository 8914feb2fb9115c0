"""The training loop: steps, and between them the log, validation, pictures, saved states and models."""

import math
import os
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from cascade_clip.compilation import compiled
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split
from cascade_clip.data.loader_processes import end_processes, explained_loss, processes_by_default
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSample, TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError, counted
from cascade_clip.evaluation.evaluate import evaluate
from cascade_clip.evaluation.scores import Scores
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.progress import Doing, unheard
from cascade_clip.runtime import check_grid, repeatable_sums
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.labelling import SeenLabels
from cascade_clip.training.meter import Meter, Watch
from cascade_clip.training.run_folder import LATEST_SHEET, RunFolder
from cascade_clip.training.state import TrainState, continue_run, keep_clip_out, load_state, network_of, save_state
from cascade_clip.training.step import TrainStep, build_optimizer, set_learning_rate
from cascade_clip.training.validation import RunPictures, Validation, card_scores

OnStep = Callable[[int], None]
"""Called with the number of steps done, right after the weights were changed, in every process."""


@dataclass
class Trainer:
    """One run: what is trained, on what, and where it is kept.

    `validation` is what is scored, on another split for evaluation across datasets. `watch` is called after every step
    on the main process, `doing` with what is done where that is no step.
    """

    accelerator: Accelerator
    model: CascadeCLIP
    split: Split
    dataset: PreparedDataset
    validation: Validation
    labeller: SeenLabels
    run: RunFolder
    watch: Watch | None = None
    doing: Doing = unheard
    state: TrainState = field(default_factory=TrainState)

    @cached_property
    def samples(self) -> TrainSamples:
        """The endless sequence of augmented training images; a `UserError` where there are none."""
        transform = TrainTransform(self.recipe.data)
        return TrainSamples(self.dataset, transform, self.recipe.seed, hidden=self.labeller.hidden)

    @property
    def network(self) -> CascadeNetwork:
        """The network that trains, without the wrapper of several processes."""
        return network_of(self.accelerator, self.model.network)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.model.recipe

    @property
    def loader_processes(self) -> int:
        """Processes that load images for this one."""
        given, world = self.recipe.train.workers, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return processes_by_default(world) if given is None else given

    @property
    def finished(self) -> bool:
        """Whether all steps of the recipe are done."""
        return self.state.step >= self.recipe.train.iterations

    def check(self) -> None:
        """Find what would stop the run, before anything of it is written; a `UserError` says what."""
        data, patch = self.recipe.data, self.model.network.patch_size
        if data.crop % patch:
            raise UserError(
                f"The training crop of {data.crop} pixels is no multiple of this CLIP's patches of {patch}: use"
                f" --set data.crop={max(patch, data.crop // patch * patch)}."
            )
        check_grid(data.crop, patch, "The training crop", "--set data.crop=")
        scored = self.validation
        self.doing(f"embedding {len(self.split.class_names):,} class names")
        self.model.text_embeddings_for(self.split)
        self.model.text_embeddings_for(scored.split, templates=scored.templates)
        self._loader()

    def train(
        self,
        *,
        resume: bool = False,
        steps: int | None = None,
        on_step: OnStep | None = None,
        asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> Scores | None:
        """Run all steps and keep the last model and, where validated, the best.

        Args:
            resume: Continue from the newest state, to the same weights as an uninterrupted run of as many processes.
            steps: Stop after so many steps of this call, as if interrupted: nothing is written beyond what was due.
                None: go on to the end.
            on_step: Called after every step, before anything is logged, validated or saved.
            asked_to_stop: Asked before every step; where it says yes in any process, the call ends after that step, on
                a GPU after the next, as with `steps`.

        Returns scores of the last validation; None where the dataset has no validation part, or the call ended before
        the run was finished. Raises UserError for a loss that is not finite, damaged data, a loader process that was
        killed, or a network that cannot be compiled.
        """
        train_step = self._prepare()
        if resume:
            self.state = load_state(self.accelerator, self.run, self.recipe, self.labeller.kept)
            continue_run(self.run, self.recipe, self.state, is_main_process=self.accelerator.is_main_process)
            self._keep_half_way_model()
        repeatable = repeatable_sums(self.accelerator.device) if self.recipe.train.deterministic else nullcontext()
        with explained_loss(), repeatable:
            scores = self._run_steps(train_step, steps, on_step, asked_to_stop)
        if not self.finished:
            return None
        if scores is None:
            scores = self._validate()
        if self.accelerator.is_main_process:
            self.model.save_pretrained(self.run.model, scores=card_scores(scores))
        self.accelerator.wait_for_everyone()
        return scores

    def save_state(self) -> None:
        """Write what resuming needs, unless the state of this step lies there already."""
        self._check_finite()
        save_state(self.accelerator, self.run, self.recipe, self.state, self.labeller.kept)

    def _prepare(self) -> TrainStep:
        """Bring network, optimiser and text embeddings to the device, and begin at step 0."""
        config, device = self.recipe.train, self.accelerator.device
        text = self.model.text_embeddings_for(self.split)[list(self.labeller.fed)].to(device)
        network, optimizer = self.accelerator.prepare(self.network, build_optimizer(self.network, config))
        if config.compile:
            network = compiled(network)
        self.network.encoder.gradient_checkpointing = config.gradient_checkpointing
        keep_clip_out(self.accelerator)
        self.state = TrainState(processes=self.accelerator.num_processes)
        return TrainStep(
            self.accelerator, network, optimizer, text, self.labeller, self.recipe.loss, self.recipe.region_loss
        )

    def _run_steps(
        self, train_step: TrainStep, steps: int | None, on_step: OnStep | None, asked_to_stop: Callable[[], bool]
    ) -> Scores | None:
        """Train up to the last step, or `steps` steps; scores of the last step, where it was validated."""
        config = self.recipe.train
        stop = config.iterations if steps is None else min(config.iterations, self.state.step + steps)
        behind = self.accelerator.device.type == "cuda"
        meter = Meter(config.batch, self.recipe.region_loss, behind=behind, unlogged=self.state.unlogged)
        processes = self.loader_processes
        self.doing(f"starting {counted(processes, 'loader process')}" if processes else "loading the first images")
        compiles, scores = config.compile, None
        first = "compiling the network, which takes minutes" if compiles else "training the first step"
        train_step.network.train()
        with closing(self._batches(stop)) as batches:
            while self.state.step < stop and not meter.asked_to_stop:
                lr = set_learning_rate(train_step.optimizer, self.state.step, config)
                with meter.compiled_step() if compiles else nullcontext():
                    batch = next(batches)
                    if first:
                        self.doing(first)
                        first = ""
                    terms = train_step(batch, asked_to_stop=asked_to_stop())
                    self.labeller.follow(self.network)
                    self.state.step += 1
                    if on_step is not None:
                        on_step(self.state.step)
                    names = [str(name) for micro in batch for name in micro["id"]]
                    meter.add(self.state.step, terms, names, wait=self._is_stop() or self.state.step == stop)
                compiles = False
                scores = self._after_step(meter, lr)
        meter.read()
        return scores

    def _after_step(self, meter: Meter, lr: float) -> Scores | None:
        """Validate, log, report, save and draw whatever is due after this step; the scores, where it was validated."""
        config, step, last = self.recipe.train, self.state.step, self.finished
        save = last or step % config.save_every == 0
        if self._is_stop():
            self._check_finite()
        scores = self._validate() if last or _is_due(step, config.validate_every) else None
        report = meter.report(step, config.iterations, lr, scores)
        if last or step % config.log_every == 0:
            self._log(meter.line(lr))
            meter.restart()
        self.state.unlogged = meter.unlogged
        if self.watch is not None and self.accelerator.is_main_process:
            self.watch(report)
        # What belongs to a step is written before its state, which says that the step is done.
        self._keep_half_way_model()
        self._picture(save=save, validated=scores is not None)
        if save:
            self.save_state()
        return scores

    def _keep_half_way_model(self) -> None:
        """Save the model where half of the recipe's steps are done, which a resumed run may have made another step."""
        if 0 < self.state.step == self.recipe.train.iterations // 2 and self.accelerator.is_main_process:
            self.model.save_pretrained(self.run.half_way_model)

    def _check_finite(self) -> None:
        """Raise UserError before weights with NaN or infinities are saved."""
        for name, tensor in self.network.own_tensors().items():
            if not tensor.isfinite().all():
                raise UserError(
                    f"After step {self.state.step} the weights {name} hold values that are not finite and are not"
                    f" saved. Start anew with a lower rate: --set train.lr={min(self.recipe.train.lr / 10, 1e-4):g}."
                )

    def _is_stop(self) -> bool:
        """Whether something is logged, kept or scored after this step, so that its loss must be known to be finite."""
        config, step = self.recipe.train, self.state.step
        stops = (config.log_every, config.save_every, config.validate_every)
        return step in {1, config.iterations // 2, config.iterations} or any(_is_due(step, every) for every in stops)

    def _loader(self, start: int = 0, stop: int | None = None) -> DataLoader[TrainSample]:
        """All micro-batches of this process from one step to another; a `UserError` where it has no whole share."""
        config = self.recipe.train
        return train_loader(
            self.samples,
            start_step=start,
            steps=config.iterations if stop is None else stop,
            batch=config.batch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            micro_batch=config.micro_batch,
            workers=self.loader_processes,
        )

    def _batches(self, stop: int) -> Generator[list[TrainSample]]:
        """The micro-batches of one step after the other, as lists, from this step on."""
        share = self.recipe.train.batch // self.accelerator.num_processes
        together = min(self.recipe.train.micro_batch or share, share)
        start = self.state.step
        stream = iter(self._loader(start, stop))
        try:
            for _ in range(start, stop):
                yield [next(stream) for _ in range(math.ceil(share / together))]
        finally:
            end_processes(stream)

    def _validate(self) -> Scores | None:
        """Score the validation part on all processes, keep the best model; None: there is no such part."""
        split, dataset = self.validation.split, self.validation.dataset
        if not dataset.count("val"):
            return None
        self.network.eval()
        limit, templates = self.recipe.train.validate_images, self.validation.templates
        scores = evaluate(
            self.model,
            split,
            dataset,
            templates=templates,
            limit=limit,
            progress=lambda done, count, _: self.doing(f"validating, image {done:,} of {count:,}"),
        ).scores
        self.network.train()
        if not self.run.has_validation(self.state.step):
            self._log({"validation": {k: v for k, v in scores.to_dict().items() if k != "classes"}})
        # Judged on seen classes: choosing a model by labels of unseen classes, or of another dataset, would leak them.
        judged = split == self.split and not math.isnan(scores.miou_seen)
        if judged and scores.miou_seen > (self.state.best or -1.0):
            self.state.best = scores.miou_seen
            if self.accelerator.is_main_process:
                self.model.save_pretrained(self.run.best_model, scores=card_scores(scores))
        return scores

    @cached_property
    def _pictures(self) -> RunPictures:
        title = f"{self.recipe.name}, {self.split.name}, seed {self.recipe.seed}"
        return RunPictures(self.run, self.model, self.validation, title)

    def _picture(self, *, save: bool, validated: bool) -> None:
        """Draw what is due: after a validation its sheet, with a state the curves, otherwise both when they are old."""
        if not (self.recipe.train.pictures and self.accelerator.is_main_process):
            return
        if validated:
            self._pictures.draw(f"validation-{self.state.step:06d}.jpg")
        elif self._pictures.are_old():
            self._pictures.draw(LATEST_SHEET)
        elif save:
            self._pictures.draw(None)

    def _log(self, values: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        self.run.log({"step": self.state.step, **values})
        flat = values.get("validation", values)
        prefix = "validation/" if "validation" in values else "train/"
        numbers = {f"{prefix}{name}": value for name, value in flat.items() if value is not None}
        self.accelerator.log(numbers, step=self.state.step)


def _is_due(step: int, every: int) -> bool:
    """Whether something happens after this step that happens every so many steps; 0: never."""
    return every > 0 and step % every == 0
