"""Datasets in other people's layouts: three classes, nine training and three validation images, drawn by index."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

NAMES = ("sky", "tree", "road")


def draw_label(index: int) -> np.ndarray:
    """Each of the three classes, and ignored pixels; another one for every index."""
    label = np.full((30 + index % 3, 40), index % 3, np.uint8)
    label[5:15, 5 : 10 + index] = (index + 1) % 3
    label[0, :4] = 255
    return label


def draw_image(index: int) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (30 + index % 3, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def encode_mask(label: np.ndarray) -> bytes:
    """A palette PNG whose colours are far from its indices."""
    image = Image.fromarray(label, mode="P")
    image.putpalette([(37 * value + 11) % 256 for value in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def draw_mask(index: int) -> bytes:
    return encode_mask(draw_label(index))


def write_imagefolder(folder: Path, *, train: int = 9, validation: int = 3) -> Path:
    """An imagefolder whose metadata.jsonl names image and mask of each pair."""
    for split, indices in (("train", range(train)), ("validation", range(100, 100 + validation))):
        if not indices:
            continue
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "masks").mkdir()
        lines = []
        for index in indices:
            (folder / split / "images" / f"p{index}.jpg").write_bytes(draw_image(index))
            (folder / split / "masks" / f"p{index}.png").write_bytes(draw_mask(index))
            pair = {"image_file_name": f"images/p{index}.jpg", "mask_file_name": f"masks/p{index}.png"}
            lines.append(json.dumps({**pair, "scene": "street"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def write_parquet(
    folder: Path,
    *,
    train: int = 9,
    validation: int = 3,
    columns: tuple[str, str] = ("pixel_values", "annotation"),
    mask: Callable[[int], bytes | None] = draw_mask,
    **more: Any,
) -> Path:
    """Parquet files as `Dataset.to_parquet` writes them, two files for the training split."""
    image, label = columns
    present = datasets.List(datasets.ClassLabel(names=NAMES))
    features = {image: datasets.Image(), label: datasets.Image(), "present": present}
    halves = {"train-0": range(train // 2), "train-1": range(train // 2, train)}
    rows_of = {**halves, "validation-0": range(100, 100 + validation)}
    (folder / "data").mkdir(parents=True)
    for name, indices in rows_of.items():
        if not indices:
            continue
        rows = {
            image: [{"bytes": draw_image(index), "path": None} for index in indices],
            label: [{"bytes": found, "path": None} if (found := mask(index)) else None for index in indices],
            "present": [[0]] * len(indices),
            **{column: [value] * len(indices) for column, (_, value) in more.items()},
        }
        typed = datasets.Features({**features, **{column: feature for column, (feature, _) in more.items()}})
        datasets.Dataset.from_dict(rows, features=typed).to_parquet(folder / "data" / f"{name}.parquet", batch_size=2)
    return folder
