"""A contact sheet of a prepared dataset: images beside their masks, so that mistakes are seen before training."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cascade_clip.data.catalogue import split_for_dataset_folder
from cascade_clip.data.dataset_info import CONTACT_SHEET, Part
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.drawing.overlay import (
    CELL_HEIGHT,
    LegendEntry,
    coloured_image,
    comparison_sheet,
    fitted_size,
    legend_of,
)
from cascade_clip.drawing.palette import PAPER
from cascade_clip.files import write_files
from cascade_clip.labels import IGNORED

SHOWN, OF_VAL = 12, 4
"""Images on the sheet, and how many of them are of the part "val"."""
PAIRS_A_ROW = 2
_QUALITY = 85


def write_contact_sheet(folder: Path) -> Path:
    """Draw images of a prepared dataset and their masks, in the colours of its classes; gives `contact-sheet.jpg`.

    Raises UserError where the dataset or an image cannot be read, OSError where the picture cannot be written.
    """
    encoded = io.BytesIO()
    contact_sheet(PreparedDataset.open(folder)).save(encoded, "JPEG", quality=_QUALITY)
    write_files({folder / CONTACT_SHEET: encoded.getvalue()})
    return folder / CONTACT_SHEET


def contact_sheet(dataset: PreparedDataset) -> Image.Image:
    """Draw the images that `chosen_images` gives, with a legend of all classes in them; an RGB picture."""
    split = split_for_dataset_folder(dataset.folder)
    pictures: list[Image.Image] = []
    captions, pixels = [], np.zeros(256, np.int64)
    for part, index in chosen_images(dataset):
        record = dataset.read(part, index)
        image, label = open_image(record.image_bytes), decode_label(record.label_bytes)
        size = fitted_size(image, CELL_HEIGHT, 2 * CELL_HEIGHT)
        pictures += [Image.fromarray(image).resize(size), coloured_image(image, label, split.colours, size)]
        captions.append(f"{part}  ·  {record.id}")
        pixels += np.bincount(label.ravel(), minlength=256)
    legend = legend_of(split.class_names, split.colours, pixels[: len(split.classes)])
    if pixels[IGNORED]:
        legend.append(LegendEntry("grey photo: ignored", None, None))
    pairs_a_row = min(PAIRS_A_ROW, len(captions))
    blank = Image.new("RGB", (1, 1), PAPER)
    while len(pictures) % (2 * pairs_a_row):
        pictures.append(blank)
        captions += [""] * (len(pictures) // 2 - len(captions))
    return comparison_sheet(
        ["image", "mask"] * pairs_a_row,
        [pictures[at : at + 2 * pairs_a_row] for at in range(0, len(pictures), 2 * pairs_a_row)],
        [captions[at : at + pairs_a_row] for at in range(0, len(captions), pairs_a_row)],
        legends=[legend],
    )


def chosen_images(dataset: PreparedDataset) -> list[tuple[Part, int]]:
    """Part and index of at most 12 images, spread evenly over each part, four of them of "val"."""
    counts: dict[Part, int] = {"train": dataset.count("train"), "val": dataset.count("val")}
    of_val = min(counts["val"], max(OF_VAL, SHOWN - counts["train"]))
    shown = {"train": min(counts["train"], SHOWN - of_val), "val": of_val}
    return [(part, place * count // shown[part]) for part, count in counts.items() for place in range(shown[part])]
