"""The keys that a recipe has for training-free models only."""

from typing import Annotated, Literal

from pydantic import Field

from cascade_clip.config.section import Integer, Number, PositiveInt, Section, Share

BACKGROUND = (
    *("sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain", "sands", "desk", "bed", "building"),
    *("cloud", "lamp", "door", "window", "wardrobe", "ceiling", "shelf", "curtain", "stair", "floor", "hill", "rail"),
    "fence",
)
"""The 26 words that published figures take for the background of PASCAL VOC and COCO-Object."""


class TrainingFreeConfig(Section):
    """How cosines of patches and queries become labels (`training_free/SPEC.md` section 4)."""

    logit_scale: Annotated[Number, Field(gt=0)] = 40.0
    """Factor of the cosines before the softmax over queries."""
    score: Literal["background", "softmax"] = "background"
    """`background`: a pixel's score is the probability of its class against background words alone, whatever the other
    classes; `softmax`: as released, its probability among all queries."""
    background: Annotated[tuple[str, ...], Field(min_length=1)] = BACKGROUND
    """Background words: scores are measured against them, and pixels that they win may belong to no class."""
    long_side: PositiveInt = 2048
    """Longest that the long side of an image may become by resizing; the short side is then below `data.short_side`."""
    keep_aspect: bool = True
    """False: images are resized to squares."""
    whole_image: bool = False
    """The whole image in one pass instead of windows."""
    direct: bool = False
    """Of a whole image, scores are resized from the patches to the image's own size at once, not by way of the resized
    image's size."""
    pad_windows: bool = False
    """Fill windows up to whole patches with zeros on all sides; else each method deals with incomplete patches."""
    probability_threshold: Share = 0.0
    """Pixels whose class has a lower probability among all queries become class 0; 0: none."""
    area_threshold: Share | None = None
    """Classes other than 0 that win at most this share of the pixels not of class 0 are dropped; unset: none is."""
    pamr_steps: Annotated[Integer, Field(ge=0)] = 0
    """Steps of PAMR, which refines scores along the edges of the image; 0: no refinement."""
    pamr_dilations: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (8, 16)
    """Distances in pixels of the neighbours in PAMR."""
