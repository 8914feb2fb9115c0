"""The result of segmenting one image: what it says, how it looks, and its files."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.drawing.overlay import LegendEntry, percent, render_overlay
from cascade_clip.drawing.palette import Colour, class_colours, hex_colour, png_palette
from cascade_clip.errors import UserError, closest, listed, reason_of
from cascade_clip.files import delete, json_text, write_files
from cascade_clip.inference import prediction_files
from cascade_clip.inference.class_scores import EIGHT_BIT_CLASSES, no_class
from cascade_clip.inference.prediction_files import PredictionFiles
from cascade_clip.inference.score_maps import ScoreMaps
from cascade_clip.inference.sources import STDIN, Source, output_stems, source_named
from cascade_clip.labels import LabelMap
from cascade_clip.runtime import check_memory

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class ClassShare:
    """How much of an image one class takes."""

    name: str
    index: int
    pixels: int
    share: float
    """Fraction of all pixels of the image, in (0, 1]."""
    mean_score: float
    """Mean of the winning score over the pixels of the class."""


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """Labels of one image at its original size. A notebook shows it as its overlay.

    Example:
        >>> import numpy as np
        >>> from cascade_clip import CascadeCLIP
        >>> model = CascadeCLIP.from_pretrained("bundled")
        >>> (found,) = model.segment(np.zeros((64, 96, 3), np.uint8), classes=["water", "wood"])
        >>> round(sum(share.share for share in found.summary()), 3)
        1.0
        >>> found
        <Segmentation of an image, 96 x 64 pixels: water 100.0 %>
        >>> found.scores_of("wood").shape, found.class_scores.shape, found.class_scores.dtype
        ((64, 96), (2, 64, 96), dtype('float16'))
        >>> found.overlay().mode
        'RGB'
        >>> [file.name for file in found.save("predictions") if file is not None]
        ['image.labels.png', 'image.overlay.png', 'image.json']
    """

    labels: LabelMap
    """(H, W) index into `classes`; `no_class` where nothing reached the threshold. uint16 above 255 classes."""
    scores: NDArray[np.float32]
    """(H, W) score of the winning class, after the bias on seen classes."""
    classes: tuple[str, ...]
    """The K class names, in the order of the indices."""
    colours: tuple[Colour, ...] = ()
    """RGB of each class; where none are given, distinct ones."""
    image: NDArray[np.uint8] | None = None
    """(H, W, 3) RGB, the image itself, not a copy; None: not kept."""
    source: str | None = None
    """Path or address of the image; None: it came from memory."""
    score_maps: ScoreMaps | None = None
    """What the scores of all classes are computed from, about 4 KB a class and window; None: not kept."""

    def __post_init__(self) -> None:
        if not self.colours:
            object.__setattr__(self, "colours", class_colours(self.classes))

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = listed([f"{share.name} {percent(share.share)}" for share in self.summary()]) or "no class"
        return f"<Segmentation of {self.source or 'an image'}, {width} x {height} pixels: {found}>"

    @property
    def no_class(self) -> int:
        """The label that means none of the classes: 255, or 65535 above 255 classes."""
        return no_class(len(self.classes))

    @property
    def class_scores(self) -> NDArray[np.float16]:
        """(K, H, W) float16, the scores of all classes; computed anew each time, since they take 2 K H W bytes.

        These are 0.7 GB for 171 classes and 1920 x 1080 pixels. Those of each pixel's winner are `scores`, rounded.

        Raises UserError where the machine has less memory, or the segmentation was not made by a model.
        """
        shape = (len(self.classes), *self.labels.shape)
        what = f"An array of the scores of {shape[0]:,} classes at {shape[2]:,} x {shape[1]:,} pixels"
        check_memory(
            2 * int(np.prod(shape, dtype=np.int64)),
            what,
            "give fewer classes, or ask for them one by one with scores_of",
        )
        return self._score_maps.of_classes(range(len(self.classes)), np.float16)

    def scores_of(self, name: str) -> NDArray[np.float32]:
        """Scores (H, W) float32 of one class at every pixel, whichever class wins there; computed anew each time.

        Raises UserError for no class of that name, or a segmentation that was not made by a model.
        """
        if name not in self.classes:
            raise UserError(f'"{name}" is none of the classes.{closest(name, self.classes)}')
        return self._score_maps.of_classes([self.classes.index(name)], np.float32)[0]

    @property
    def _score_maps(self) -> ScoreMaps:
        if self.score_maps is None:
            raise UserError(
                "This segmentation holds winning scores only: those of all classes come with model.segment."
            )
        return self.score_maps

    def summary(self) -> list[ClassShare]:
        """The classes that are present, the largest first; pixels of no class are left out."""
        pixels, score_sums = self._totals()
        present = sorted(np.flatnonzero(pixels).tolist(), key=lambda index: -pixels[index])
        shares, means = pixels / self.labels.size, score_sums / np.maximum(pixels, 1)
        return [
            ClassShare(self.classes[i], i, int(pixels[i]), share=float(shares[i]), mean_score=float(means[i]))
            for i in present
        ]

    def _totals(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pixels and summed scores (K,) of each class, in blocks of rows because bincount makes its input wider."""
        classes = len(self.classes)
        pixels = np.zeros(classes, dtype=np.int64)
        score_sums = np.zeros(classes, dtype=np.float64)
        for top in range(0, len(self.labels), ROWS_AT_ONCE):
            labels = self.labels[top : top + ROWS_AT_ONCE]
            kept = labels != self.no_class
            indices = labels[kept]
            pixels += np.bincount(indices, minlength=classes)
            score_sums += np.bincount(indices, weights=self.scores[top : top + ROWS_AT_ONCE][kept], minlength=classes)
        return pixels, score_sums

    def record(self) -> dict[str, Any]:
        """What the JSON says: size, present classes from the largest on, pixels without class, all names."""
        summary = self.summary()
        height, width = self.labels.shape
        unassigned = self.labels.size - sum(share.pixels for share in summary)
        return {
            "image": self.source,
            "width": width,
            "height": height,
            "classes": [
                {
                    "class": share.name,
                    "index": share.index,
                    "colour": hex_colour(self.colours[share.index]),
                    "pixels": share.pixels,
                    "share": share.share,
                    "mean_score": share.mean_score,
                }
                for share in summary
            ],
            "no_class": {"index": self.no_class, "pixels": unassigned, "share": unassigned / self.labels.size},
            "names": list(self.classes),
        }

    def overlay(self) -> Image.Image:
        """The image, else UserError, under its classes' colours with a legend: RGB, longer side 800 to 4096."""
        if self.image is None:
            raise UserError("This segmentation holds no image to draw on: give it one as Segmentation(…, image=…).")
        legend = [LegendEntry(share.name, share.share, self.colours[share.index]) for share in self.summary()]
        unassigned = np.count_nonzero(self.labels == self.no_class)
        if unassigned:
            legend.append(LegendEntry("no class", unassigned / self.labels.size, None))
        return render_overlay(self.image, self.labels, self.colours, legend)

    def _repr_png_(self) -> bytes | None:
        """The overlay, which notebooks show; None where there is no image."""
        return None if self.image is None else _png(self.overlay())

    def labels_png(self, *, grey: bool = False) -> bytes:
        """The label map as an indexed PNG with the classes' colours.

        Above 255 classes, or where `grey`, it is a grey PNG, whose indices every reader gives; a palette's OpenCV turns
        into colours or luminance.
        """
        picture = Image.fromarray(self.labels)
        if not grey and len(self.classes) <= EIGHT_BIT_CLASSES:
            picture.putpalette(png_palette(self.colours))
        return _png(picture)

    def save(
        self,
        folder: str | Path,
        stem: str | None = None,
        *,
        grey: bool = False,
        scores: bool = False,
        explanation: bytes | None = None,
    ) -> PredictionFiles:
        """Write the files that `cascade-clip predict` writes: STEM.labels.png, STEM.overlay.png and STEM.json.

        Args:
            folder: Folder to write to; made where it does not exist.
            stem: Name of the files without their endings; what has it already is replaced. None: the image's name, or
                another near it, so that only an earlier prediction of the same file is replaced.
            grey: As of `labels_png`.
            scores: Also write STEM.scores.npz: `scores`, see `class_scores`, and the `names` of the K classes.
            explanation: A PNG of what each stage saw, written as STEM.explain.png.

        Raises UserError where the folder cannot be written to, or the disk is full (then none of the files is left
        half-written), or the segmentation does not hold its image.
        """
        place = Path(folder).expanduser()
        stem = stem or self._free_stem(place)
        endings = (prediction_files.LABELS, prediction_files.OVERLAY, prediction_files.RECORD)
        files = PredictionFiles(*(place / f"{stem}{ending}" for ending in endings))
        # The record is moved into place first: without it the others would count as somebody else's.
        contents = {
            files.record: json_text(self.record()).encode(),
            files.labels: self.labels_png(grey=grey),
            files.overlay: _png(self.overlay()),
        }
        earlier = prediction_files.is_prediction(place, stem)
        extra = {prediction_files.EXPLANATION: explanation, prediction_files.SCORES: self._npz() if scores else None}
        contents |= {place / f"{stem}{ending}": content for ending, content in extra.items() if content is not None}
        try:
            write_files(contents)
            for ending, content in extra.items():
                if content is None and earlier:  # what an earlier run wrote is not of these labels
                    delete(place / f"{stem}{ending}")
        except OSError as error:
            raise UserError(
                f'The prediction cannot be written to "{folder}": {reason_of(error)}. Choose another --output.'
            ) from error
        explained, scored = (place / f"{stem}{ending}" for ending in extra)
        return files._replace(explanation=None if explanation is None else explained, scores=scored if scores else None)

    def _free_stem(self, folder: Path) -> str:
        def taken(stem: str, _: Source) -> bool:
            return prediction_files.is_taken(folder, stem, self.source)

        own = Source("image", Path("image"), address=STDIN) if self.source is None else source_named(self.source)
        return output_stems([own], taken)[0]

    def _npz(self) -> bytes:
        encoded = io.BytesIO()
        np.savez(encoded, scores=self.class_scores, names=np.array(self.classes))
        return encoded.getvalue()


def _png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    # A photograph takes 0.4 of the time of the default level, and 7 % more bytes.
    picture.save(encoded, "PNG", compress_level=3)
    return encoded.getvalue()
