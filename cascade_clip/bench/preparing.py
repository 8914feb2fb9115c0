"""`bench prepare`: images and masks to a prepared dataset, beside a plain copy of the files."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from cascade_clip.bench.pictures import drawn_image, jpeg_bytes
from cascade_clip.bench.settings import ALL_CLASSES, BenchSettings
from cascade_clip.bench.workload import Workload
from cascade_clip.preparation.prepare_folder import prepare_folder

COPY = "plain copy"


class PrepareWorkload(Workload):
    """A folder of images and index masks, prepared again and again; figures are those of one image."""

    def __init__(self, settings: BenchSettings, folder: Path) -> None:
        """Draw the images and masks into a folder."""
        super().__init__(torch.device("cpu"))
        self.folder, self.classes = folder, settings.classes or ALL_CLASSES
        self.source = folder / "source"
        for name in ("images", "masks"):
            (self.source / name).mkdir(parents=True)
        for number in range(settings.images):
            image, label = drawn_image(settings.seed + number, settings.size, self.classes)
            (self.source / "images" / f"{number}.jpg").write_bytes(jpeg_bytes(image))
            Image.fromarray(label).save(self.source / "masks" / f"{number}.png")
        self.add(COPY, self._copy, settings.images)
        for workers in sorted({1, settings.workers}):
            name = f"preparation, {workers} process{'es' if workers > 1 else ''}"
            self.add(name, partial(self._prepare, workers), settings.images)

    def _copy(self) -> None:
        target = self.folder / "copy"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.source, target)

    def _prepare(self, workers: int) -> None:
        prepare_folder(
            self.folder / "prepared",
            name="bench",
            images=self.source / "images",
            masks=self.source / "masks",
            classes=[f"class {index}" for index in range(self.classes)],
            workers=workers,
            overwrite=True,
        )
