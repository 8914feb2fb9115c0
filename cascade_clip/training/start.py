"""From a recipe to a run that is ready to train: split, dataset, CLIP, network, processes, run folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch import Tensor

from cascade_clip import faster_linear
from cascade_clip.checkpoint.description import CONFIG
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split, get_split, split_for_dataset_folder
from cascade_clip.data.dataset_location import dataset_folder, locate_dataset
from cascade_clip.data.hub_address import HubAddress
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError, closest, listed
from cascade_clip.files import usable_path
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.progress import Doing, unheard
from cascade_clip.runtime import (
    check_memory,
    gathered,
    process_state,
    resolve_device,
    resolve_precision,
    seed_everything,
)
from cascade_clip.segmenter import OWN_LICENCE, CascadeCLIP
from cascade_clip.training.labelling import PseudoLabels, SeenLabels
from cascade_clip.training.loop import Trainer
from cascade_clip.training.meter import Watch
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.state import recipe_to_continue
from cascade_clip.training.validation import Validation

logger = logging.getLogger(__name__)
TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow", "comet_ml", "clearml", "aim", "dvclive", "swanlab")
_ACCELERATE_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class TrainingData(NamedTuple):
    """What is trained on, or scored: classes, and the folder through which the dataset is opened (`dataset_folder`)."""

    split: Split
    folder: Path


class _Start(NamedTuple):
    """What training starts from: a model, and its network, which may become self-training's teacher."""

    model: CascadeCLIP
    network: CascadeNetwork


def find_training_data(recipe: Recipe) -> TrainingData:
    """Find the split and the dataset of a recipe, else a `UserError`; one on the Hub is downloaded, unless streamed."""
    data = recipe.data
    if data.split is not None:
        split = get_split(data.split)
        found = locate_dataset(split.dataset, data.dataset, stream=data.stream, class_names=split.class_names)
        return TrainingData(split, found)
    if data.dataset is None:
        raise UserError(
            "Say what to train on: --split NAME (for example shapes-seen), or --data FOLDER of a prepared dataset."
        )
    folder = dataset_folder(data.dataset, stream=data.stream)
    return TrainingData(split_for_dataset_folder(folder), folder)


def start_training(
    recipe: Recipe | None,
    output: Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    resume: bool = False,
    overwrite: bool = False,
    track: str | None = None,
    watch: Watch | None = None,
    doing: Doing = unheard,
    changes: Sequence[str] = (),
) -> Trainer:
    """Check everything that can be wrong, then make the run folder and return a trainer; see `train`, which runs it."""
    run = RunFolder(output)
    recipe = _recipe_to_train(recipe, run, resume, changes)
    chosen = resolve_device(device)
    resolve_precision(precision, chosen)
    if not resume:
        run.check_free(overwrite=overwrite)
    doing("checking the dataset")
    recipe = _with_lasting_places(recipe)
    data = find_training_data(recipe)
    # Before CLIP, which may have to be downloaded.
    dataset, validation = _open_datasets(recipe, data)
    accelerator = _accelerator(chosen, precision, output, track)
    # Each process measures on its own: they must not differ.
    faster_linear.choose(run.linear_library() if resume else gathered(faster_linear.library())[0])
    _check_batch_fits(recipe, accelerator.num_processes)
    init = _init_of(recipe)
    doing(f"loading CLIP {recipe.clip.architecture}" if init is None else f"loading the checkpoint {init}")
    start = _find_start(recipe, run, data.split, resume=resume)
    model = _model_to_train(recipe, start, data.split, device=str(accelerator.device), precision=precision)
    # From here on the processes draw different dropout masks; the weights above are the same in all of them.
    torch.manual_seed(recipe.seed * 1000 + 1 + accelerator.process_index)
    labeller = _labeller(model, start, data.split)
    trainer = Trainer(accelerator, model, data.split, dataset, validation, labeller, run, watch, doing)
    trainer.check()
    if resume:
        run.check_unchanged(data.folder, data.split, dataset.place, model.clip.identity.sha256, precision)
    else:
        _check_inputs_elsewhere(output, recipe, data)
    if accelerator.is_main_process:
        run.hold()
        try:
            _open_run(trainer, start, data, precision, resume=resume, overwrite=overwrite)
        except BaseException:
            run.release()
            raise
    accelerator.wait_for_everyone()
    if track:
        values = json.dumps(model.recipe.model_dump(mode="json"))
        # What was logged after the state that a run is resumed from is logged again.
        again = {"tensorboard": {"purge_step": run.steps_kept + 1}} if resume else {}
        accelerator.init_trackers("cascade-clip", config={"recipe": values}, init_kwargs=again)
    return trainer


def _labeller(model: CascadeCLIP, start: _Start | None, split: Split) -> SeenLabels:
    """What gives the labels of a step: the dataset alone or, in self-training, also the model or its teacher."""
    config = model.recipe.self_training
    if config is None or start is None:
        return SeenLabels(split)
    teacher = None if config.teacher == "self" else start.network.to(model.device)
    return PseudoLabels(split, config, teacher, dtype=model.dtype)


def _recipe_to_train(recipe: Recipe | None, run: RunFolder, resume: bool, changes: Sequence[str]) -> Recipe:
    """The recipe that was given, or that of the run which goes on."""
    if resume:
        return recipe_to_continue(run, changes)
    if changes:
        raise UserError("Changes are for a run that is continued, with resume=True: put them on the recipe instead.")
    if recipe is None:
        raise UserError("There is no recipe to train: give one, or resume=True to continue the run in the folder.")
    if not isinstance(recipe, Recipe):
        raise UserError(f"The recipe is a Recipe, see load_recipe; got {type(recipe).__name__}.")
    return recipe


def _open_datasets(recipe: Recipe, data: TrainingData) -> tuple[PreparedDataset, Validation]:
    """Open what is trained on and what is scored, and compare their classes with those of the splits."""
    dataset = PreparedDataset.open(data.folder)
    split, images = data.split, dataset
    if recipe.evaluation.split is not None:
        split = get_split(recipe.evaluation.split)
        images = PreparedDataset.open(locate_dataset(split.dataset))
    dataset.check_classes(data.split.class_names, data.split.name)
    images.check_classes(split.class_names, split.name)
    return dataset, Validation(split, images, recipe.evaluation.templates)


def _open_run(
    trainer: Trainer, start: _Start | None, data: TrainingData, precision: str, *, resume: bool, overwrite: bool
) -> None:
    """Make the run's folder, or clear one that is resumed of what was interrupted; either keeps a start's model."""
    run = trainer.run
    keep_start = partial(start.model.save_pretrained, run.start_model) if start is not None else None
    if not resume:
        run.start(
            trainer.recipe,
            data.folder,
            data.split,
            loader_processes=trainer.loader_processes,
            clip_sha256=trainer.model.clip.identity.sha256,
            precision=precision,
            overwrite=overwrite,
            before=keep_start,
        )
        return
    run.drop_interrupted()
    if keep_start is not None and not (run.start_model / CONFIG).is_file():
        keep_start()


def _check_batch_fits(recipe: Recipe, processes: int) -> None:
    batch, crop = recipe.train.batch, recipe.data.crop
    crops = f"A step's batch of {batch:,} crops of {crop:,} x {crop:,} pixels"
    side = recipe.data.short_side
    check_memory(12 * side**2, f"A validation image of at least {side:,} x {side:,} pixels", "lower data.short_side")
    # Three float32 channels and a label of a byte.
    check_memory(
        max(1, batch // processes) * crop**2 * 13, crops, "lower train.batch or data.crop, or use more machines"
    )


def _check_inputs_elsewhere(output: Path, recipe: Recipe, data: TrainingData) -> None:
    """Refuse an output folder that holds what the run reads, which replacing the run would delete."""
    places = (("dataset", data.folder), ("checkpoint", _init_of(recipe)), ("split", recipe.data.split))
    for name, place in places:
        if place is not None and Path(place).exists() and Path(place).resolve().is_relative_to(output.resolve()):
            raise UserError(f'--output "{output}" holds the {name} that is trained on or from: choose another folder.')


def _init_of(recipe: Recipe) -> str | None:
    """Checkpoint that training starts from; None: none is named."""
    return recipe.train.init if recipe.self_training is None else recipe.self_training.init


def _find_start(recipe: Recipe, run: RunFolder, split: Split, *, resume: bool) -> _Start | None:
    """Load the model that training starts from; None for inductive training from drawn weights.

    In self-training the split must leave something to guess, and have the checkpoint's classes and unseen classes.
    """
    if recipe.self_training is None and recipe.train.init is None:
        return None
    if recipe.self_training is not None and not split.unseen:
        raise UserError(
            f'The split "{split.name}" has no unseen classes, so there is nothing for self-training to guess: choose'
            " another --split, or train on all labels with `cascade-clip train`."
        )
    kept = run.start_model
    source = str(kept) if resume and (kept / CONFIG).is_file() else _init_of(recipe)
    if source is None:
        raise UserError("Self-training starts from a checkpoint: name its folder with --init.")
    model = CascadeCLIP.from_pretrained(source)
    if not isinstance(model.network, CascadeNetwork):
        raise UserError(f'"{source}" is training-free: --init takes a model that `train` made.')
    trained = model.split
    if trained is None:
        return _Start(model, model.network)
    if recipe.self_training is not None:
        _check_classes(trained, split, source)
    elif known := sorted((set(trained.class_names) - trained.unseen) & split.unseen):
        logger.warning(
            "%s was trained with labels of %s, which the split %s calls unseen: scores of unseen classes will not be"
            " zero-shot.",
            source,
            ", ".join(known),
            split.name,
        )
    return _Start(model, model.network)


def _check_classes(trained: Split, split: Split, source: str) -> None:
    """Refuse a start whose training would make the split's unseen classes no unseen ones."""
    if trained.class_names != split.class_names:
        raise UserError(
            f'"{source}" was trained on the classes of the split "{trained.name}", which are not those of'
            f' "{split.name}": start from a model of that dataset, or choose another --split.'
        )
    if known := sorted(split.unseen - trained.unseen):
        raise UserError(
            f'"{source}" was trained with labels of classes that the split "{split.name}" calls unseen'
            f' ({", ".join(known)}): start from a model trained on "{split.name}".'
        )


def _model_to_train(recipe: Recipe, start: _Start | None, split: Split, *, device: str, precision: str) -> CascadeCLIP:
    """Build the network with fresh weights, or with those of the start, whose CLIP and licence it then has too."""
    clip = load_clip(recipe.clip.architecture, recipe.clip.weights) if start is None else start.model.clip
    seed_everything(recipe.seed)
    network = build_network(recipe.model, clip.visual)
    licence = OWN_LICENCE
    if start is not None:
        recipe, licence = recipe.changed(clip=start.model.recipe.clip), start.model.licence
        tensors = start.network.own_tensors()
        if recipe.self_training is None:
            tensors = _fitting_tensors(network.own_tensors(), tensors)
        try:
            network.load_own_tensors(tensors)
        except UserError as error:
            raise UserError(
                f"The checkpoint of --init does not fit the recipe's model; leave --recipe out to take its own. {error}"
            ) from error
    return CascadeCLIP(network, clip, recipe, split, licence=licence, device=device, precision=precision)


def _fitting_tensors(drawn: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint where they fit, drawn ones elsewhere; those that do not fit are logged by name."""
    fitting = {name: given[name] for name, own in drawn.items() if name in given and given[name].shape == own.shape}
    if left := sorted(drawn.keys() - fitting.keys()):
        message = "%d of %d tensors are drawn, as --init has none that fit: %s"
        logger.warning(message, len(left), len(drawn), listed(left))
    if unused := sorted(given.keys() - drawn.keys()):
        logger.warning("%d tensors of --init have no place in the recipe's model: %s", len(unused), listed(unused))
    return {**drawn, **fitting}


def _with_lasting_places(recipe: Recipe) -> Recipe:
    """Name the commit of a dataset on the Hub and the whole path of a split's file.

    A resumed run then reads the same files as its beginning, from whichever folder it is resumed.
    """
    changes = {}
    if (address := HubAddress.parse(str(recipe.data.dataset))) is not None:
        changes["dataset"] = str(address.pinned())
    if recipe.data.split is not None and (file := usable_path(recipe.data.split, "The split")).is_file():
        changes["split"] = str(file.resolve())
    return recipe.changed(data=changes)


def _accelerator(device: torch.device, precision: str, output: Path, track: str | None) -> Accelerator:
    if track is not None and track not in TRACKERS:
        raise UserError(f'"{track}" is no experiment tracker.{closest(track, TRACKERS)}')
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    process_state(device)
    try:
        accelerator = Accelerator(
            mixed_precision=_ACCELERATE_PRECISION[precision],
            cpu=device.type == "cpu",
            log_with=track,
            project_config=ProjectConfiguration(project_dir=str(output), logging_dir=str(output / "track")),
        )
    except (ImportError, ValueError) as error:
        raise UserError(f'Training cannot start with tracker "{track}" and precision "{precision}": {error}') from error
    if track is not None and not accelerator.log_with:
        raise UserError(f'The tracker "{track}" is not installed: `pip install {track}`, or leave --track out.')
    return accelerator
