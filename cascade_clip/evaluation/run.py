"""Evaluate a network on a prepared data set: every image once, at its original size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, tee
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.data.catalogue import Split
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.errors import UserError
from cascade_clip.evaluation.confusion import confusion_matrix
from cascade_clip.evaluation.details import ImageResult, image_result
from cascade_clip.inference.predictor import images_together, label_maps
from cascade_clip.inference.sliding_window import MaskNetwork
from cascade_clip.progress import Progress

if TYPE_CHECKING:
    from cascade_clip.data.dataset_info import Part
    from cascade_clip.data.prepared import PreparedDataset


class _Sample(NamedTuple):
    name: str
    place: int
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


def evaluate(
    network: MaskNetwork,
    text: Tensor,
    split: Split,
    dataset: PreparedDataset,
    data: DataConfig,
    inference: InferenceConfig,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    part: Part = "val",
    rank: int = 0,
    world: int = 1,
    limit: int = 0,
    progress: Progress | None = None,
    results: list[ImageResult] | None = None,
) -> Tensor:
    """Segment this process's share of the images and count the pixels.

    The shares of all processes are disjoint and together are the whole set, so that the sum of their matrices counts
    each image exactly once; nothing is padded, and shares may differ by one image.

    Args:
        network: The network in evaluation mode, on `device`.
        text: (K, C) float32 text embeddings of the split's classes.
        split: Class names, and which of them are seen (for the bias).
        dataset: Images with labels; label k is the split's class k, 255 is ignored.
        data: How an image is brought to the network.
        inference: Crop, stride, bias, mirrored averaging, windows a forward pass.
        device: Where the network runs.
        dtype: Precision of the network's products.
        part: "val" or "train".
        rank: Number of this process, 0..world-1.
        world: Number of processes.
        limit: Evaluate only this many images, spread evenly over the set; 0: all of them.
        progress: Called after every image with how many of this process's are done, how many it has, and the image.
        results: Takes how each image of this process fares, in their order; none: nobody asks.

    Returns:
        (K, K) int64 confusion matrix of this process on `device`; to be summed over processes.

    Raises:
        UserError: The part is empty, an image or label cannot be read, or a label does not fit its image or the split.
    """
    chosen = chosen_images(dataset.count(part), limit)
    if not chosen:
        raise UserError(f'The data set has no images in its part "{part}", so there is nothing to evaluate.')
    mine = chosen[rank::world]
    classes = len(split.class_names)
    seen = torch.zeros(classes, dtype=torch.bool)
    seen[list(split.seen_indices)] = True
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    samples, looked_at = tee(_read_ahead(dataset, part, mine, images_together(inference, device)))
    images = (sample.image for sample in looked_at)
    maps = label_maps(network, images, text, seen, data=data, inference=inference, device=device, dtype=dtype)
    for done, (sample, predicted) in enumerate(zip(samples, maps, strict=True), start=1):
        try:
            counts = confusion_matrix(predicted, torch.from_numpy(sample.label).to(device), classes)
        except UserError as error:
            raise UserError(f'Image "{sample.name}": {error}') from error
        confusion += counts
        if results is not None:
            results.append(image_result(sample.name, sample.place, counts.cpu()))
        if progress is not None:
            progress(done, len(mine), sample.name)
    return confusion


def chosen_images(count: int, limit: int) -> list[int]:
    """Indices of the images that are evaluated: all, or `limit` of them spread evenly over the set."""
    if limit <= 0 or limit >= count:
        return list(range(count))
    return [position * count // limit for position in range(limit)]


def _read_ahead(dataset: PreparedDataset, part: Part, indices: Sequence[int], ahead: int) -> Iterator[_Sample]:
    """Read and decode the next `ahead` images while the network works on the present ones."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        reads = (reader.submit(_read, dataset, part, index) for index in indices)
        waiting = deque(islice(reads, ahead))
        while waiting:
            waiting.extend(islice(reads, 1))
            yield waiting.popleft().result()


def _read(dataset: PreparedDataset, part: Part, index: int) -> _Sample:
    record = dataset.read(part, index)
    name = f'Image "{record.id}" of the data set'
    label = decode_label(record.label_bytes, f'The label of image "{record.id}"')
    return _Sample(record.id, index, open_image(record.image_bytes, name), label)
