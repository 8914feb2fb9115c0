"""`bench predict` and `bench eval`: images to label maps, beside the bare tower."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.bench.counting import count_parameters, nothing_trains
from cascade_clip.bench.model import bare_tower, load_bench_model, seen_mask, window_size
from cascade_clip.bench.pictures import drawn_dataset, drawn_image
from cascade_clip.bench.plain import plain_labels
from cascade_clip.bench.rooms import RoomClock, network_rooms
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.timing import WARM_UP_ROUNDS
from cascade_clip.bench.workload import COMPILED, PLAIN, TOWER, Workload
from cascade_clip.compilation import compiled
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.resize import test_size
from cascade_clip.evaluation.confusion import confusion_matrix
from cascade_clip.evaluation.evaluate import evaluate
from cascade_clip.inference.onnx_runtime import OnnxNetwork
from cascade_clip.inference.predictor import Predictor, Vocabulary
from cascade_clip.inference.sliding_window import MaskNetwork, window_boxes
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.network import CascadeNetwork

LABELS, EVALUATION = "label map", "evaluation"
_COMPARED_IMAGES = 8
"""Images whose labels are compared with those of full precision."""


class PredictWorkload(Workload):
    """One image to its label map, from uint8 pixels to labels at its own size."""

    subject = LABELS

    def __init__(self, settings: BenchSettings) -> None:
        """Load the model and draw the image.

        Raises:
            UserError: As `load_bench_model`.
        """
        model, self.split = load_bench_model(settings)
        super().__init__(model.device)
        self.settings, self.model = settings, model
        self.text, self.seen = model.text_embeddings_for(self.split), seen_mask(self.split)
        model.release_text_tower()
        self.inference, batch = model.recipe.inference, settings.batch or 1
        if settings.batch is not None:
            self.inference = self.inference.model_copy(update={"window_batch": settings.batch})
        self.image, _ = drawn_image(settings.seed, settings.size, len(self.text))
        self.add(TOWER, bare_tower(model, window_size(model, settings.size), batch), batch)
        self._add_subjects()

    def _add_subjects(self) -> None:
        self.add(LABELS, lambda: self.labels(self.model.network, self.image))
        if self.settings.compiled:
            network = compiled(self.model.network)
            self.add(f"{LABELS}, {COMPILED}", lambda: self.labels(network, self.image))
        if self.settings.plain:
            self.add(f"{LABELS}, {PLAIN}", lambda: plain_labels(self.model, self.image, self.text, self.seen))

    def labels(self, network: MaskNetwork, image: NDArray[np.uint8], dtype: torch.dtype | None = None) -> Tensor:
        """Label map (H, W) of an image; `dtype` in place of the settings' precision."""
        predictor = Predictor(
            network, self.model.recipe.data, self.inference, device=self.device, dtype=dtype or self.model.dtype
        )
        return predictor.label_image(image, Vocabulary.of_split(self.split, self.text)).labels

    def rooms(self, rounds: int) -> Mapping[str, float]:
        """Median seconds an image: preparation, tower, head, and what follows."""
        after = "upsampling, labels" if self.subject == LABELS else "upsampling, labels, counting"
        before = "preparation" if self.subject == LABELS else "reading, preparation"
        passes = []
        for _ in range(WARM_UP_ROUNDS + rounds):
            clock = RoomClock(self.device)
            with network_rooms(self.model.network, clock, afterwards=after):
                clock.enter(before)
                self.subjects[self.subject]()
                clock.enter(None)
            passes.append(clock.seconds)
        return median_rooms(passes[WARM_UP_ROUNDS:], self.images[self.subject])

    def flops(self, name: str) -> int:
        """Floating-point operations of one turn of a subject."""
        with nothing_trains(self.model.network):
            return super().flops(name)

    def facts(self) -> dict[str, Any]:
        """Windows, classes, parameters, and how many labels are those of full precision."""
        facts: dict[str, Any] = {"classes": len(self.text), "windows": len(self._windows())}
        if isinstance(self.model.network, CascadeNetwork):
            facts["parameters"] = count_parameters(self.model.network, self.text)
        if self.model.dtype != torch.float32:
            facts["labels_equal_to_fp32"] = self._agreement()
        return facts

    def _windows(self) -> Sequence[object]:
        height, width = test_size(*self.settings.size, self.model.recipe.data.short_side)
        return window_boxes(height, width, self.inference.crop, self.inference.stride)

    def _agreement(self) -> float:
        """Share of pixels of several images that have the same label in full precision."""
        network, equal = self.model.network, []
        for number in range(_COMPARED_IMAGES):
            image, _ = drawn_image(self.settings.seed + number, self.settings.size, len(self.text))
            fast, exact = self.labels(network, image), self.labels(network, image, torch.float32)
            equal.append(float((fast == exact).float().mean()))
        return statistics.fmean(equal)


class EvalWorkload(PredictWorkload):
    """Several images from a prepared dataset to a confusion matrix; figures are those of one image."""

    subject = EVALUATION

    def __init__(self, settings: BenchSettings, folder: Path) -> None:
        """Load the model and draw the images into a folder.

        Raises:
            UserError: As `load_bench_model`.
        """
        self.folder = folder
        super().__init__(settings)

    def _add_subjects(self) -> None:
        count, names = self.settings.images, self.split.class_names
        self.dataset = drawn_dataset(
            self.folder / "drawn", size=self.settings.size, names=names, train=0, val=count, seed=self.settings.seed
        )
        self.add(EVALUATION, lambda: self._evaluate(self.model.network), count)
        if self.settings.compiled:
            network = compiled(self.model.network)
            self.add(f"{EVALUATION}, {COMPILED}", lambda: self._evaluate(network), count)
        if self.settings.plain:
            self.add(f"{EVALUATION}, {PLAIN}", self._evaluate_plainly, count)

    def _evaluate(self, network: CascadeNetwork | DenseNetwork | OnnxNetwork) -> Tensor:
        model = copy(self.model)
        model.network = network
        result = evaluate(model, self.split, self.dataset, inference=self.inference, text_embeddings=self.text)
        return torch.from_numpy(result.confusion)

    def _evaluate_plainly(self) -> Tensor:
        classes = len(self.text)
        confusion = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        for index in range(self.settings.images):
            record = self.dataset.read("val", index)
            image, label = open_image(record.image_bytes, record.id), decode_label(record.label_bytes, record.id)
            predicted = plain_labels(self.model, image, self.text, self.seen).labels
            confusion += confusion_matrix(predicted, torch.from_numpy(label).to(self.device), classes)
        return confusion


def median_rooms(passes: Sequence[Mapping[str, float]], images: int = 1) -> dict[str, float]:
    """Median seconds of each room over passes that hold the same rooms, for one of `images`."""
    return {room: statistics.median(seconds[room] for seconds in passes) / images for room in passes[0]}
