"""Reading and writing beside the network."""

import threading
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.sources import Source
from cascade_clip_cli import predict_images
from cascade_clip_cli.predict_images import PredictionJob, segmented_images

PATIENCE = 20
"""Seconds until an event that never comes fails the test."""


def test_the_next_image_is_read_and_the_last_one_written_while_the_network_works(tmp_path, monkeypatch):
    """Each image's network waits for the next one's reading, and each one's writing for the next one's network."""
    count = 4
    read, segmented = ([threading.Event() for _ in range(count)] for _ in range(2))

    def pixels(source: Source) -> NDArray[np.uint8]:
        image = np.full((2, 2, 3), int(source.name), np.uint8)
        read[int(source.name)].set()
        return image

    def segment(job: PredictionJob, image: NDArray[np.uint8]) -> Segmentation:
        number = int(image[0, 0, 0])
        segmented[number].set()
        assert read[min(number + 1, count - 1)].wait(PATIENCE), "the next image is read only after the network"
        scores = np.zeros((2, 2), np.float32)
        return Segmentation(np.zeros((2, 2), np.uint8), scores, ("red",), ((255, 0, 0),), image=image)

    def write(job: PredictionJob, source: Source, segmentation: Segmentation, *_: object) -> SimpleNamespace:
        number = int(segmentation.source or 0)
        assert segmented[min(number + 1, count - 1)].wait(PATIENCE), "the network waits for the writing"
        return SimpleNamespace(number=number)

    monkeypatch.setattr(predict_images, "_pixels", pixels)
    monkeypatch.setattr(predict_images, "_write", write)
    monkeypatch.setattr(PredictionJob, "segment", segment)
    job = PredictionJob(None, None, tmp_path, None)  # type: ignore[arg-type]
    images = [(Source(str(number), tmp_path / str(number)), str(number)) for number in range(count)]
    done = [outcome.number for outcome in segmented_images(job, images)]  # type: ignore[attr-defined]
    assert done == list(range(count))


def test_an_image_called_as_the_file_of_all_masks_gives_way(tmp_path):
    own = Source(str(tmp_path / "dogs" / "Coco.jpg"), tmp_path / "dogs" / "Coco.jpg")
    assert predict_images.output_stems([own], tmp_path) == {own: "Coco"}
    assert predict_images.output_stems([own], tmp_path, ["coco", "yolo"]) == {own: "dogs-Coco"}
