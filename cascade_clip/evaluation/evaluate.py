"""Evaluate a model on a prepared dataset: every image once, at its original size."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice, tee
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from cascade_clip.config.dataset_address import is_address
from cascade_clip.config.schema import InferenceConfig
from cascade_clip.data.catalogue import Split, get_split, split_for_dataset_folder
from cascade_clip.data.dataset_info import INFO_FILE, Part
from cascade_clip.data.dataset_location import dataset_folder, holds_rows, locate_dataset
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.evaluation.details import ConfusedPair, ImageResult, image_result, most_confused
from cascade_clip.evaluation.scores import Scores, confusion_matrix, scores_from_confusion
from cascade_clip.inference.predictor import Predictor
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.vocabulary import Vocabulary
from cascade_clip.progress import Progress
from cascade_clip.segmenter import CascadeCLIP

_Sample = tuple[str, int, NDArray[np.uint8], NDArray[np.uint8]]
"""Id, index, image (H, W, 3) and label (H, W)."""
PAIRS_RECORDED = 20
"""Most pairs of confused classes that a result names."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Result of an evaluation, over all processes.

    Attributes:
        split: The classes, and which of them are seen.
        dataset: Name of the dataset.
        part: "val" or "train".
        inference: How the images were segmented.
        templates: Name of the sentences into which the class names were put.
        confusion: (K, K) int64 pixels, row = true class, column = predicted class.
        images: The result of each image, in the order of the dataset.
        images_of_the_set: Number of images in the part; more than `images` where a limit was given.
        processes: Number of processes that shared the work.
        seconds: Duration, without loading and compiling the model.
    """

    split: Split
    dataset: str
    part: Part
    inference: InferenceConfig
    templates: str
    confusion: NDArray[np.int64]
    images: tuple[ImageResult, ...]
    images_of_the_set: int
    processes: int
    seconds: float

    @cached_property
    def scores(self) -> Scores:
        """Seen and unseen mIoU, hIoU, pixel accuracy and every class's figures."""
        split = self.split
        return scores_from_confusion(self.confusion, split.seen_indices, split.unseen_indices, split.class_names)

    @cached_property
    def confused(self) -> list[ConfusedPair]:
        """The pairs of classes that are confused most, at most `PAIRS_RECORDED`."""
        return most_confused(self.confusion, self.split.class_names, PAIRS_RECORDED)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, without the confusion matrix and single images."""
        return {
            "split": self.split.name,
            "dataset": self.dataset,
            "images": len(self.images),
            "images_of_the_set": self.images_of_the_set,
            "inference": self.inference.model_dump(mode="json", exclude_none=True),
            "templates": self.templates,
            "processes": self.processes,
            "seconds": round(self.seconds, 2),
            "scores": self.scores.to_dict(),
            "confused": [asdict(pair) for pair in self.confused],
        }


def evaluate(
    model: CascadeCLIP,
    split: str | Split | None = None,
    dataset: PreparedDataset | Path | str | None = None,
    *,
    part: Part = "val",
    inference: InferenceConfig | None = None,
    templates: str | None = None,
    text_embeddings: Tensor | None = None,
    limit: int = 0,
    progress: Progress | None = None,
    observe: Callable[[Segmentation], None] | None = None,
) -> EvaluationResult:
    """Measure seen and unseen mIoU, hIoU and pixel accuracy of a model.

    Where processes were started together (`torch.distributed`), each segments its share of the images and every one
    returns the result of all. The shares are disjoint and together the whole set, so that each image is counted once.

    Args:
        model: The model, in evaluation mode.
        split: Class names and which of them are seen, by name, TOML file or as a split; None: the model's own, or that
            of the dataset where it has other classes.
        dataset: A prepared dataset, its folder, one that holds it under its name, or an address; None: the one that the
            model was trained on, else the split's in `$CASCADE_CLIP_DATA` or the user's data folder.
        part: "val" or "train".
        inference: Crop, stride, bias, mirrored averaging, windows a forward pass; None: the model's own, of a
            training-free one those of `CascadeCLIP.for_benchmark`.
        templates: Template set or file for class names; None: the model's own.
        text_embeddings: (K, C) unit vectors of the split's classes, for a model without a text tower.
        limit: Evaluate only this many images, spread evenly over the set; 0: all of them.
        progress: Called after every image with how many of this process's are done, how many it has, and the image.
        observe: Called with the segmentation of each of this process's images, whose `source` is the image's id.

    Raises:
        UserError: No split or dataset, classes that cannot be embedded, a part without images, an image or label that
            cannot be read, or a label that does not fit its image or the split.

    Example:
        >>> from cascade_clip import CascadeCLIP, evaluate
        >>> result = evaluate(CascadeCLIP.from_pretrained("bundled"), "shapes-seen", "prepared/shapes", limit=2)
        >>> len(result.images), 0 < result.scores.hiou < 1
        (2, True)
    """
    if isinstance(model, str | Path):
        raise UserError(f'The model is the name "{model}": load it with CascadeCLIP.from_pretrained("{model}").')
    if part not in get_args(Part):
        raise UserError(f'"{part}" is no part of a dataset: give "val" or "train".')
    chosen, dataset = find_dataset(model, split, dataset)
    model = model.for_benchmark(chosen)
    started = time.perf_counter()
    vocabulary = model.vocabulary(split=chosen, text_embeddings=text_embeddings, templates=templates)
    indices = chosen_images(dataset.count(part), limit)
    if not indices:
        raise UserError(f'The dataset has no images in its part "{part}", so there is nothing to evaluate.')
    predictor = model.predictor(inference)
    rank, world = _place_among_processes()
    confusion, images = _measure(predictor, vocabulary, dataset, part, indices[rank::world], progress, observe)
    if world > 1:
        confusion, images = _gathered(confusion, images, world)
    return EvaluationResult(
        split=chosen,
        dataset=dataset.name,
        part=part,
        inference=predictor.inference,
        templates=templates or model.recipe.text.templates,
        confusion=confusion.cpu().numpy(),
        images=tuple(images),
        images_of_the_set=dataset.count(part),
        processes=world,
        seconds=time.perf_counter() - started,
    )


def find_dataset(
    model: CascadeCLIP, split: str | Split | None, data: PreparedDataset | Path | str | None, *, stream: bool = False
) -> tuple[Split, PreparedDataset]:
    """Find split and dataset: those given, else those that the model was trained on.

    The model's own split counts where no other is named and the dataset in `data`, a folder, one that holds it under
    its name, or an address, has the same classes. `stream`: read a remote dataset without downloading it first. Raises
    UserError for no split, no dataset, or one of other classes than the split's.
    """
    if isinstance(split, str):
        split = get_split(split)
    chosen = split or (model.split if isinstance(data, PreparedDataset) else _split_of(model, data, stream))
    if chosen is None:
        raise UserError("The model does not say what it was trained on: give --split NAME or --data FOLDER.")
    if isinstance(data, PreparedDataset):
        return chosen, data
    own = model.recipe.data.dataset if model.split is not None and chosen.dataset == model.split.dataset else None
    stream = stream or (data is None and model.recipe.data.stream)
    folder = locate_dataset(chosen.dataset, data or own, stream=stream, class_names=chosen.class_names)
    dataset = PreparedDataset.open(folder)
    dataset.check_classes(chosen.class_names, chosen.name)
    return chosen, dataset


def chosen_images(count: int, limit: int) -> list[int]:
    """Indices of the images to evaluate: all, or `limit` of them spread evenly over the set."""
    if limit < 0:
        raise UserError(f"The limit of {limit} images does not fit: give a number above 0, or 0 for all of them.")
    if limit == 0 or limit >= count:
        return list(range(count))
    return [position * count // limit for position in range(limit)]


def _split_of(model: CascadeCLIP, data: Path | str | None, stream: bool) -> Split | None:
    """The model's own split, or that of the dataset in `data` where this one has other classes."""
    if data is None:
        return model.split
    place = Path(data).expanduser()
    if not (is_address(data) or (place / INFO_FILE).is_file() or holds_rows(place)):
        return model.split
    own_names = model.split.class_names if model.split is not None else None
    found = split_for_dataset_folder(dataset_folder(data, stream=stream, class_names=own_names))
    return model.split if model.split is not None and model.split.class_names == found.class_names else found


def _measure(
    predictor: Predictor,
    vocabulary: Vocabulary,
    dataset: PreparedDataset,
    part: Part,
    indices: Sequence[int],
    progress: Progress | None,
    observe: Callable[[Segmentation], None] | None,
) -> tuple[Tensor, list[ImageResult]]:
    """Confusion matrix (K, K) int64 on the device, and the result of each image."""
    confusion = torch.zeros(len(vocabulary), len(vocabulary), dtype=torch.int64, device=predictor.device)
    results: list[ImageResult] = []
    samples, again = tee(_read_ahead(dataset, part, indices, predictor.images_together))
    if observe is None:
        maps = predictor.label_maps((image for _, _, image, _ in again), vocabulary)
    else:
        maps = _observed(predictor, vocabulary, again, observe)
    for done, ((name, index, _, label), predicted) in enumerate(zip(samples, maps, strict=True), start=1):
        try:
            counts = confusion_matrix(predicted, torch.from_numpy(label).to(predictor.device), len(vocabulary))
        except UserError as error:
            raise UserError(f'Image "{name}": {error}') from error
        confusion += counts
        results.append(image_result(name, index, counts.cpu()))
        if progress is not None:
            progress(done, len(indices), name)
    return confusion, results


def _observed(
    predictor: Predictor, vocabulary: Vocabulary, samples: Iterator[_Sample], observe: Callable[[Segmentation], None]
) -> Iterator[Tensor]:
    """The labels of `Predictor.label_maps`, image by image with their scores, which are shown to an observer."""
    for name, _, image, _ in samples:
        found = predictor.segment_image(image, vocabulary)
        observe(replace(found, source=name))
        yield torch.from_numpy(found.labels.astype(np.int32)).to(predictor.device)


def _place_among_processes() -> tuple[int, int]:
    """Number of this process, and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _gathered(confusion: Tensor, images: list[ImageResult], world: int) -> tuple[Tensor, list[ImageResult]]:
    """The sum of all processes' matrices, and all images in the order of the dataset."""
    distributed.all_reduce(confusion)
    shares: list[list[ImageResult]] = [[] for _ in range(world)]
    distributed.all_gather_object(shares, images)
    return confusion, sorted((image for share in shares for image in share), key=lambda image: image.index)


def _read_ahead(dataset: PreparedDataset, part: Part, indices: Sequence[int], ahead: int) -> Iterator[_Sample]:
    """The samples in order; the next `ahead` are read while the network works."""

    def read(index: int) -> _Sample:
        record = dataset.read(part, index)
        label = decode_label(record.label_bytes, f'The label of image "{record.id}"')
        return record.id, index, open_image(record.image_bytes, f'Image "{record.id}" of the dataset'), label

    with ThreadPoolExecutor(max_workers=1) as reader:
        reads = (reader.submit(read, index) for index in indices)
        waiting = deque(islice(reads, ahead))
        while waiting:
            waiting.extend(islice(reads, 1))
            yield waiting.popleft().result()
