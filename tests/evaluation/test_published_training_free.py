"""Published figures of training-free methods: what agrees with itself, and which are found for a model."""

import statistics

import pytest

from cascade_clip.data.catalogue import benchmark_names, get_split
from cascade_clip.evaluation.published_training_free import published_methods, published_table, sources_of

ROWS = published_table().rows


def test_the_benchmarks_are_those_that_can_be_prepared():
    table = published_table()
    assert set(table.benchmarks) == set(benchmark_names())
    assert all(get_split(split).unseen == frozenset() for split in table.benchmarks)
    assert table.benchmarks["voc-background"] == "VOC21"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} {row.tower} {row.source}")
def test_averages_are_those_of_the_cells_and_sources_are_named(row: object):
    assert row.miou.keys() <= published_table().benchmarks.keys()  # type: ignore[attr-defined]
    assert set(row.source.split(", ")) <= published_table().sources.keys()  # type: ignore[attr-defined]
    if len(row.miou) == 8:  # type: ignore[attr-defined]
        assert row.average == pytest.approx(statistics.fmean(row.miou.values()), abs=0.051)  # type: ignore[attr-defined]


# Method, tower, split: figures in order.
FIGURES = [
    ("maskclip_full", "ViT-B-16", "cityscapes", [12.6, 24.9]),
    ("sclip", "ViT-B-16-quickgelu", "coco", [22.4, 22.77]),
    ("scclip", "ViT-L-14-quickgelu", "voc", []),
    ("scclip", "ViT-L-14-quickgelu", "cityscapes", [41.3]),
    ("unheard-of", "ViT-B-16", "voc", []),
    ("sclip", "ViT-B-16", "shapes-seen", []),
]


@pytest.mark.parametrize(("method", "architecture", "split", "expected"), FIGURES)
def test_figures_of_a_method_on_a_split(method: str, architecture: str, split: str, expected: list[float]):
    found = published_methods(method, architecture, "openai", split=split)
    assert [row.miou[split] for row in found] == expected
    assert published_methods(method, architecture, "laion2b_s34b_b88k", split=split) == ()


def test_refinement_and_sources_are_shown():
    rows = published_methods("naclip", "ViT-B-16", "openai")
    assert [row.shown for row in rows] == ["NACLIP [a]", "NACLIP, its repository + PAMR [f]"]
    assert [source[:3] for source in sources_of(rows)] == ["a: ", "f: "]
