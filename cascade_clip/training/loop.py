"""The training loop over Accelerate: one effective batch a step, whatever the number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from cascade_clip.compilation import compiled
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSample
from cascade_clip.errors import UserError
from cascade_clip.evaluation.run import evaluate
from cascade_clip.evaluation.scores import Scores, scores_from_confusion
from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.losses.targets import present_classes
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import to_device
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.batches import StepBatches
from cascade_clip.training.compilation import Warmup
from cascade_clip.training.labels import Labeller, StudentPasses
from cascade_clip.training.loss_reading import LossReader, Meter
from cascade_clip.training.optimizer import build_optimizer, set_learning_rate
from cascade_clip.training.pictures import write_curves, write_validation_sheet
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.state import TrainState, keep_clip_out, load_state, save_state

MEBIBYTE = 2**20


@dataclass(frozen=True)
class TrainReport:
    """What the loop tells whoever watches.

    Attributes:
        step: Steps done.
        steps: Steps of the whole run.
        loss: Total loss of this step; on a GPU of the one before, unless this one is logged, saved or validated.
        focal: Weighted focal term.
        region: Weighted dice term, or SSIM in its place.
        region_loss: Which of the two it is.
        lr: Learning rate of this step.
        images_per_second: Since the last line of the log.
        memory: Peak device memory in MiB, 0 on the CPU.
        validation: Scores, where this step was validated.
    """

    step: int
    steps: int
    loss: float
    focal: float
    region: float
    region_loss: str
    lr: float
    images_per_second: float
    memory: float
    validation: Scores | None = None


Watch = Callable[[TrainReport], None]


@dataclass(frozen=True)
class Validation:
    """What validation scores.

    Attributes:
        split: Classes, seen and unseen.
        dataset: Prepared images; its validation part counts.
        templates: Templates of the class names; unset: those of training.
    """

    split: Split
    dataset: PreparedDataset
    templates: str | None = None


@dataclass
class Trainer:
    """One run: what is trained, on what, and where it is kept.

    Attributes:
        accelerator: Devices, processes, precision, trackers.
        model: The model; its network trains in place.
        split: Classes, and which of them have labels.
        dataset: Prepared images.
        validation: What is scored; another split for evaluation across datasets.
        labeller: Decides what is learnt: inductive labels, or pseudo labels too.
        run: The run's folder.
        watch: Told about every step, on the main process.
    """

    accelerator: Accelerator
    model: CascadeCLIP
    split: Split
    dataset: PreparedDataset
    validation: Validation
    labeller: Labeller
    run: RunFolder
    watch: Watch | None = None
    state: TrainState = field(default_factory=TrainState)

    @cached_property
    def batches(self) -> StepBatches:
        """What this process trains on."""
        return StepBatches(self.recipe, self.dataset, self.run, self.accelerator, hidden=self.labeller.hidden)

    @property
    def network(self) -> CascadeNetwork:
        """The network that trains, without the wrapper of several processes."""
        network = self.accelerator.unwrap_model(self.model.network)
        if not isinstance(network, CascadeNetwork):
            raise TypeError(f"{type(network).__name__} cannot be trained")
        return network

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.model.recipe

    def train(self, *, resume: bool = False) -> Scores | None:
        """Run all steps and keep the last model and, where validated, the best.

        Args:
            resume: Continue from the newest state, to the same weights as an uninterrupted run.

        Returns:
            Scores of the last validation; none where the dataset has no validation part.

        Raises:
            UserError: A loss that is not finite, damaged data.
        """
        config, device = self.recipe.train, self.accelerator.device
        text = self.model.text_embeddings_for(self.split)[list(self.labeller.fed)].to(device)
        network, optimizer = self.accelerator.prepare(self.network, build_optimizer(self.network, config))
        if config.compile:
            network = compiled(network)
        self.network.encoder.gradient_checkpointing = config.gradient_checkpointing
        keep_clip_out(self.accelerator)
        self.state = TrainState(processes=self.accelerator.num_processes)
        if resume:
            self.state = load_state(self.accelerator, self.run, self.labeller.kept)
            if self.accelerator.is_main_process:
                self.run.forget_after(self.state.step)
        scores = self._run_steps(network, optimizer, text)
        if self.accelerator.is_main_process:
            self.model.save_pretrained(self.run.model, scores=_card_scores(scores))
        self.accelerator.wait_for_everyone()
        self.batches.close()
        return scores

    def check(self) -> None:
        """Find what would stop the run, before anything of it is written.

        Raises:
            UserError: A dataset of other classes, class names that cannot be embedded, a crop that does not fit the
                patches, a batch that cannot be dealt to the processes, or no training images.
        """
        data, patch = self.recipe.data, self.model.network.patch_size
        if data.crop % patch:
            raise UserError(
                f"The training crop of {data.crop} pixels is no multiple of this CLIP's patches of {patch}: use"
                f" --set data.crop={max(patch, data.crop // patch * patch)}."
            )
        scored = self.validation
        self.dataset.check_classes(self.split.class_names, self.split.name)
        scored.dataset.check_classes(scored.split.class_names, scored.split.name)
        self.model.text_embeddings_for(self.split)
        self.model.text_embeddings_for(scored.split, templates=scored.templates)
        self.batches.loader()

    def _run_steps(self, network: nn.Module, optimizer: Optimizer, text: Tensor) -> Scores | None:
        config = self.recipe.train
        steps = self.batches.steps(self.state.step, self.network.encoder)
        reader = LossReader(self.recipe.region_loss, behind=self.accelerator.device.type == "cuda")
        meter = Meter(config.batch, self.recipe.region_loss)
        warm_up = Warmup(config.compile)
        scores = None
        network.train()
        for step in range(self.state.step, config.iterations):
            lr = set_learning_rate(optimizer, step, config)
            with warm_up.first_step(meter):
                self._step(network, optimizer, text, next(steps), reader)
                meter.add(reader.read(everything=self._is_stop()))
            last = self.state.step == config.iterations
            due = config.validate_every and self.state.step % config.validate_every == 0
            scores = self._validate() if due or last else None
            focal, region = meter.latest
            report = TrainReport(
                self.state.step,
                config.iterations,
                focal + region,
                focal,
                region,
                self.recipe.region_loss,
                lr,
                meter.rate(),
                _memory(),
                scores,
            )
            if self.state.step % config.log_every == 0 or last:
                line = {**meter.means(), "lr": lr, "images_per_s": meter.rate(), "memory_mib": _memory()}
                self._log({**line, **warm_up.seconds()})
                meter.restart()
            if self.watch is not None and self.accelerator.is_main_process:
                self.watch(report)
            if self.state.step % config.save_every == 0 or last:
                save_state(self.accelerator, self.run, self.state, self.labeller.kept)
            if self.state.step == config.iterations // 2 and self.accelerator.is_main_process:
                self.model.save_pretrained(self.run.half_way_model)
            if scores is not None or last or self.state.step % config.save_every == 0:
                self._picture(validated=scores is not None)
        return scores if scores is not None else self._validate()

    def _is_stop(self) -> bool:
        """Whether something is logged, kept or scored after this step, so that its loss must be known to be finite."""
        config, step = self.recipe.train, self.state.step
        stops = (config.log_every, config.save_every, config.validate_every)
        return step in {1, config.iterations // 2, config.iterations} or any(n and step % n == 0 for n in stops)

    def _step(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        text: Tensor,
        batch: Sequence[TrainSample],
        reader: LossReader,
    ) -> None:
        """One optimiser step; `reader` takes the weighted focal and dice (or SSIM) terms over all processes."""
        device, loss = self.accelerator.device, self.recipe.loss
        passes = StudentPasses(network, [to_device(micro["image"], device) for micro in batch], text)
        labels = self.labeller.label(batch, passes)
        present = [present_classes(micro, len(text)).cpu() for micro in labels]
        num_masks = self._mean_over_processes(sum(int(micro.sum()) for micro in present))
        terms, images = torch.zeros(2, device=device), sum(len(micro) for micro in labels)
        for number, micro_labels in enumerate(labels):
            together = nullcontext() if number == len(batch) - 1 else self.accelerator.no_sync(network)
            with together:
                parts = segmentation_loss(
                    passes.logits(number),
                    to_device(micro_labels, device),
                    focal_weight=loss.focal,
                    dice_weight=loss.dice,
                    region=self.recipe.region_loss,
                    ignored=loss.ignored,
                    num_masks=num_masks,
                    share=len(micro_labels) / images,
                    present=present[number],
                )
                self.accelerator.backward(parts.total)
            terms += torch.stack([parts.focal, parts.dice + parts.ssim])
        self.state.step += 1
        names = [str(name) for micro in batch for name in micro["id"]]
        reader.add(self.state.step, self.accelerator.reduce(terms, "mean"), names)
        optimizer.step()
        optimizer.zero_grad()
        self.labeller.follow(self.network)

    def _mean_over_processes(self, masks: int) -> float | Tensor:
        """SPEC section 7: the number of masks is averaged over processes, so that N is the whole batch's."""
        if self.accelerator.num_processes == 1:
            return float(masks)
        mean: Tensor = self.accelerator.reduce(torch.full((), float(masks), device=self.accelerator.device), "mean")
        return mean

    def _validate(self) -> Scores | None:
        """Score the validation part on all processes, keep the best model; none where there is no such part."""
        split, dataset = self.validation.split, self.validation.dataset
        if not dataset.count("val"):
            return None
        network, recipe = self.network, self.recipe
        network.eval()
        confusion = evaluate(
            network,
            self.model.text_embeddings_for(split, templates=self.validation.templates),
            split,
            dataset,
            recipe.data,
            recipe.inference,
            device=self.accelerator.device,
            dtype=self.model.dtype,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            limit=recipe.train.validate_images,
        )
        network.train()
        total = self.accelerator.reduce(confusion, "sum")
        scores = scores_from_confusion(total.cpu().numpy(), split.seen_indices, split.unseen_indices, split.class_names)
        self._log({"validation": {k: v for k, v in scores.to_dict().items() if k != "classes"}})
        # Judged on seen classes: choosing a model by labels of unseen classes, or of another dataset, would leak them.
        judged = split == self.split and not math.isnan(scores.miou_seen)
        if judged and scores.miou_seen > (self.state.best or -1.0):
            self.state.best = scores.miou_seen
            if self.accelerator.is_main_process:
                self.model.save_pretrained(self.run.best_model, scores=_card_scores(scores))
        return scores

    def _picture(self, *, validated: bool) -> None:
        """Redraw the curves and, after a validation, show the fixed images; the main process alone does so."""
        recipe, validation = self.recipe, self.validation
        if not (recipe.train.pictures and self.accelerator.is_main_process):
            return
        write_curves(self.run, f"{recipe.name}, {self.split.name}, seed {recipe.seed}")
        if not validated:
            return
        network = self.network
        network.eval()
        write_validation_sheet(
            self.run,
            self.state.step,
            network,
            self.model.text_embeddings_for(validation.split, templates=validation.templates),
            validation.split,
            validation.dataset,
            recipe,
            device=self.accelerator.device,
            dtype=self.model.dtype,
        )
        network.train()

    def _log(self, values: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        self.run.log({"step": self.state.step, **values})
        flat = values.get("validation", values)
        prefix = "validation/" if "validation" in values else "train/"
        numbers = {f"{prefix}{name}": value for name, value in flat.items() if value is not None}
        self.accelerator.log(numbers, step=self.state.step)


def _memory() -> float:
    return torch.cuda.max_memory_allocated() / MEBIBYTE if torch.cuda.is_available() else 0.0


def _card_scores(scores: Scores | None) -> dict[str, float]:
    if scores is None:
        return {}
    named = {
        "mIoU": scores.miou,
        "mIoU seen": scores.miou_seen,
        "mIoU unseen": scores.miou_unseen,
        "hIoU": scores.hiou,
        "pixel accuracy": scores.pixel_accuracy,
    }
    return {name: value for name, value in named.items() if not math.isnan(value)}
