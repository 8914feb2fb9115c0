"""Reports of made-up results, with names as hostile as users may give them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.config.schema import InferenceConfig
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.drawing.palette import distinct_colours
from cascade_clip.evaluation.details import ImageResult
from cascade_clip.evaluation.evaluate import EvaluationResult
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.evaluation_page import EvaluationPage
from cascade_clip.report.picture_sheets import PicturedImage

RUN = "document.documentElement.dataset.ran=1"
HOSTILE = (
    f'<img src=x onerror="{RUN}">',
    f"</script><script>{RUN}</script>",
    f"</style></title><svg onload={RUN}>",
    f"\" onfocus='{RUN}' autofocus x=\"",
    "{{ 7 * 7 }}{% raw %}",
    "שלום עולם",
    "x" * 200,
)
CLASSES = ("road", "tree", "sky", *HOSTILE)
UNSEEN = (1, 3, 5)
LAYERS = ("image", "label", "prediction", "errors")
NO_LABEL = 2
"""The sky is in no label and never predicted."""


def confusion() -> np.ndarray:
    counts = np.random.default_rng(0).integers(1, 40, (len(CLASSES), len(CLASSES)))
    counts[np.diag_indices(len(CLASSES))] = [900, 300, 0, 500, 100, 700, 800, 200, 600, 400]
    counts[NO_LABEL], counts[:, NO_LABEL] = 0, 0
    return counts.astype(np.int64)


def evaluation_page(
    counts: np.ndarray | None = None,
    classes: Sequence[str] = CLASSES,
    unseen: Sequence[int] = UNSEEN,
    images: Sequence[ImageResult] | None = None,
    **changes: Any,
) -> EvaluationPage:
    name = HOSTILE[0]
    counts = confusion() if counts is None else counts
    entries = tuple(
        ClassEntry(each, each, colour) for each, colour in zip(classes, distinct_colours(len(classes)), strict=True)
    )
    split = Split(name, "dataset", entries, frozenset(classes[index] for index in unseen))
    if images is None:
        images = [ImageResult(f"{name} {i}", i, i / 9, 0.5) for i in range(9)]
        images = [*images, ImageResult("empty", 9, *[np.nan] * 2)]
    result = EvaluationResult(split, "dataset", "val", InferenceConfig(), "single", counts, tuple(images), 10, 1, 1.0)
    pictures = [
        PicturedImage(
            id=f"{group} {name}",
            group=group,
            miou=0.5,
            pixel_accuracy=0.75,
            **{layer: Image.new("RGB", (60, 40), (60 * i, 90, 200)) for i, layer in enumerate(LAYERS)},
            classes=((name, (1, 2, 3)), ("road", (200, 2, 3))),
        )
        for group in ("best", "median", "worst")
    ]
    content: dict[str, Any] = {
        "title": f"Run {name}",
        "record": {
            "checkpoint": HOSTILE[1],
            "split": name,
            "dataset": HOSTILE[3],
            "images": 2,
            "images_of_the_set": 1000,
            "inference": {"crop": 512, "stride": None},
            "scores": {"miou": 0.5},
        },
        "result": result,
        "paper": {"miou_seen": 41.1, "miou_unseen": 43.4, "hiou": 42.2},
        "paper_source": f"table 2, {name}",
        "pictures": pictures,
        "log": [
            {"step": 10, "loss": 80.0, "focal": 79.0, "dice": 1.0, "lr": 0.001},
            {"step": 20, "loss": 2.0, "focal": 1.5, "dice": 0.5, "lr": 0.0},
            {"step": 20, "validation": {"miou": 0.4, "miou_seen": 0.5, "miou_unseen": 0.25, "hiou": 1 / 3}},
        ],
    }
    return EvaluationPage(**{**content, **changes})


def layer_similarities() -> list[LayerSimilarity]:
    blocks = tuple(f"block {i}" for i in range(1, 5))
    distance = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    about = {"row_model": HOSTILE[0], "column_model": HOSTILE[0], "estimator": "exact", "images": 1200, "samples": 9600}
    return [
        LayerSimilarity(title=title, rows=blocks, columns=blocks, tokens=tokens, matrix=matrix, **about)
        for title, tokens, matrix in (
            ("before training", "patch", 1 - 0.1 * distance),
            (f"after {HOSTILE[1]}", "patch", 1 - 0.3 * distance),
            ("class token", "class", 1 - 0.2 * distance),
        )
    ]


def written_predictions(folder: Path, images: int = 2) -> list[dict[str, Any]]:
    """Predict-like files: in image 0 half road and half hostile; in the others three quarters road; one left out."""
    classes = ("road", HOSTILE[0], "tree")
    records = []
    for number in range(images):
        source = folder.parent / f"photo # {number}.png"
        pixels = np.full((40, 60, 3), 30 + 20 * number, np.uint8)
        Image.fromarray(pixels).save(source)
        labels = np.zeros((40, 60), np.uint8)
        labels[20 + 10 * bool(number) :] = 2 if number else 1
        scores = np.full(labels.shape, 0.5, np.float32)
        segmentation = Segmentation(labels, scores, classes, image=pixels, source=str(source))
        files = segmentation.save(folder, source.stem)
        records.append(
            {**segmentation.record(), "files": {name: str(path) for name, path in files._asdict().items() if path}}
        )
    return [*records, {"image": "broken.jpg", "error": f'"broken.jpg" is cut off {HOSTILE[0]}.'}]
