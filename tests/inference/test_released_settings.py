"""Settings and words of the published training-free figures, compared with those read off the released code."""

import pytest

from cascade_clip.data.catalogue import benchmark_names, get_split
from cascade_clip.inference.released_settings import _content, query_words, released_settings

METHODS = ("sclip", "naclip", "clearclip", "scclip", "resclip", "maskclip", "gem")

# Method, dataset: scale, crop, stride, short side, probability threshold, area threshold.
# fmt: off
RELEASED = [
    ("sclip", "voc-background", 65, 224, 112, 336, 0.1, 0.1),
    ("sclip", "context-background", 50, 224, 112, 336, 0.1, None),
    ("sclip", "coco-object", 50, 224, 112, 336, 0.1, None),
    ("sclip", "voc", 40, 224, 112, 336, 0.0, None),
    ("sclip", "cityscapes", 40, 224, 112, 560, 0.0, None),
    ("sclip", "context", 40, 224, 112, 336, 0.0, None),
    ("sclip", "ade20k", 40, 224, 112, 336, 0.0, None),
    ("sclip", "coco", 40, 224, 112, 448, 0.0, None),
    ("naclip", "voc-background", 40, 0, 112, 336, 0.1, None),
    ("naclip", "context-background", 40, 224, 112, 336, 0.1, None),
    ("naclip", "coco-object", 40, 224, 112, 336, 0.1, None),
    ("naclip", "voc", 40, 0, 112, 336, 0.0, None),
    ("naclip", "cityscapes", 40, 224, 112, 560, 0.0, None),
    ("naclip", "coco", 40, 224, 112, 336, 0.0, None),
    ("clearclip", "voc-background", 50, 448, 224, 448, 0.5, None),
    ("clearclip", "context-background", 50, 448, 224, 448, 0.15, None),
    ("clearclip", "coco-object", 50, 448, 224, 448, 0.4, None),
    ("clearclip", "cityscapes", 50, 224, 224, 448, 0.0, None),
    ("clearclip", "ade20k", 50, 448, 224, 448, 0.0, None),
    ("scclip", "voc-background", 50, 224, 112, 336, 0.15, 0.1),
    ("scclip", "context-background", 40, 224, 112, 336, 0.15, None),
    ("scclip", "coco-object", 55, 224, 112, 336, 0.35, None),
    ("scclip", "cityscapes", 40, 224, 112, 560, 0.0, None),
    ("resclip", "voc-background", 40, 0, 112, 336, 0.1, None),
    ("resclip", "voc", 40, 0, 112, 336, 0.0, None),
    ("resclip", "cityscapes", 40, 224, 112, 560, 0.0, None),
]
RESCLIP = {
    "voc-background": (0.5, (2.2, 0.7), 0.3), "context-background": (0.3, (1.8, 0.7), 0.3),
    "coco-object": (0.11, (1.8, 0.7), 0.4), "voc": (0.1, (2.1, 0.6), 0.6), "cityscapes": (0.1, (2.1, 0.6), 0.2),
    "context": (0.25, (1.8, 0.7), 0.4), "ade20k": (0.25, (2.1, 0.7), 0.3), "coco": (0.11, (1.8, 0.7), 0.4),
}
# fmt: on


@pytest.mark.parametrize(("method", "dataset", "scale", "crop", "stride", "short", "probability", "area"), RELEASED)
def test_settings_are_the_released_ones(
    method: str, dataset: str, scale: float, crop: int, stride: int, short: int, probability: float, area: float | None
):
    found = released_settings(method, dataset)
    assert (found.logit_scale, found.crop, found.stride, found.short_side) == (scale, crop, stride, short)
    assert (found.probability_threshold, found.area_threshold) == (probability, area)
    assert found.long_side == 2048
    assert found.pad_windows == (method == "clearclip")
    assert found.pamr_steps == (10 if method == "naclip" else 0)


def test_resclip_has_four_numbers_for_each_benchmark():
    assert set(RESCLIP) == set(benchmark_names())
    for dataset, (threshold, feedback, share) in RESCLIP.items():
        numbers = released_settings("resclip", dataset).resclip
        assert numbers is not None
        assert (numbers.temporary_threshold, numbers.feedback, numbers.mixing) == (threshold, feedback, (2.0, share))
    assert released_settings("naclip", "voc").resclip is None


def test_maskclip_takes_whole_images_as_its_own_code_does():
    boxes = {"voc": (512, 2048), "coco": (512, 2048), "context": (520, 520), "cityscapes": (512, 1024)}
    for dataset, box in boxes.items():
        found = released_settings("maskclip", dataset)
        assert (found.short_side, found.long_side, found.crop, found.logit_scale) == (*box, 0, 1)
        assert found.mean == (123.675, 116.28, 103.53)


@pytest.mark.parametrize("method", METHODS)
def test_every_entry_is_valid_and_its_words_belong_to_classes(method: str):
    for dataset in benchmark_names():
        split = get_split(dataset)
        assert set(released_settings(method, dataset).words) <= set(split.class_names)
        assert len(query_words(split, method)) == len(split.classes)
    known = _content()
    assert {entry.get("like", name) for name, entry in known["methods"].items()} <= set(METHODS)
    for layer in (known["common"], *known["methods"].values()):
        assert set(layer.get("datasets", {})) <= set(benchmark_names())


# Queries of all classes, and the words of some classes.
QUERIES = {
    "voc-background": (56, {"boat": ("ship",), "diningtable": ("table",), "aeroplane": ("aeroplane",)}),
    "voc": (30, {"tvmonitor": ("television monitor", "tv monitor", "monitor", "television", "screen")}),
    "context-background": (60, {"background": ("background",), "pottedplant": ("pottedplant",)}),
    "context": (59, {"tvmonitor": ("tvmonitor",)}),
    "coco-object": (113, {"bed": ("bed",), "traffic light": ("traffic light",)}),
    "coco": (171, {"traffic light": ("trafficlight",), "wall-concrete": ("wall-concrete",)}),
    "cityscapes": (19, {"traffic light": ("trafficlight",), "traffic sign": ("trafficsign",)}),
    "ade20k": (150, {"chest of drawers": ("chestofdrawers",), "crt screen": ("crtscreen",), "wall": ("wall",)}),
}


@pytest.mark.parametrize("dataset", QUERIES)
def test_words_are_those_of_the_published_figures(dataset: str):
    count, some = QUERIES[dataset]
    split = get_split(dataset)
    words = dict(zip(split.class_names, query_words(split, "sclip"), strict=True))
    assert sum(map(len, words.values())) == count
    assert {name: words[name] for name in some} == some
