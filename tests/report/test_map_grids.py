import io

import numpy as np
import pytest
from PIL import Image

from cascade_clip.analysis.similarity import PatchSimilarity
from cascade_clip.analysis.stage_masks import StageMasks
from cascade_clip.drawing.overlay import CELL_HEIGHT, MARGIN
from cascade_clip.drawing.palette import HIGHLIGHT, SEQUENTIAL
from cascade_clip.report.map_grids import ExplainedClass, render_similarity_grid, render_stage_grid

HOSTILE = "<img src=x onerror=alert(1)> $x_{y$ " + "long " * 60
GREY = np.full((64, 64, 3), 128, np.uint8)


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def stages(decoders: int, value: float = 0.0, classes: int = 1) -> StageMasks:
    masks = np.full((classes, decoders, 6, 5), value, np.float32)
    return StageMasks(tuple(f"stage {{{number}}}" for number in range(decoders)), masks, masks[:, 0])


def similarity(name: str, blocks: int, grid: tuple[int, int]) -> PatchSimilarity:
    values = np.linspace(-0.2, 1, blocks * grid[0] * grid[1], dtype=np.float32).reshape(blocks, *grid)
    return PatchSimilarity(name, values, (0, 0))


def test_six_blocks_a_row_and_models_of_any_depth_under_each_other():
    a, b, deep, shallow = (
        similarity(*of) for of in (("a", 6, (4, 4)), ("b", 6, (2, 2)), ("a", 8, (4, 4)), ("b", 3, (2, 2)))
    )
    one, two, three = (
        opened(render_similarity_grid(GREY, (5, 5), models)) for models in ([a], [a, b], [deep, shallow])
    )
    assert one.shape[1] == two.shape[1] == three.shape[1]
    row = two.shape[0] - one.shape[0]
    assert row > CELL_HEIGHT
    assert three.shape[0] - two.shape[0] == row


def test_the_point_is_marked_on_the_image_and_on_every_map():
    flat = PatchSimilarity("a", np.zeros((3, 4, 4), np.float32), (0, 0))
    drawn = opened(render_similarity_grid(GREY, (32, 32), [flat]))
    rows, columns = np.nonzero(np.abs(drawn - np.array(HIGHLIGHT)).sum(axis=-1) < 60)
    expected = [MARGIN + CELL_HEIGHT / 2 + number * (CELL_HEIGHT + MARGIN) for number in range(4)]
    assert [np.abs(columns - middle).min() < 20 for middle in expected] == [True] * 4
    assert np.ptp(rows) < 40


@pytest.mark.parametrize("size", [(1, 1), (20, 300), (300, 20), (48, 64)])
def test_any_shape_and_any_name_are_drawn(size: tuple[int, int]):
    image = np.full((*size, 3), 90, np.uint8)
    predicted = np.ones(size, bool)
    classes = [ExplainedClass(HOSTILE, (200, 0, 0), predicted), ExplainedClass("none", (0, 0, 200), ~predicted)]
    assert opened(render_stage_grid(image, classes, stages(2, 0.4, classes=2))).shape[1] < 5000
    assert opened(render_similarity_grid(image, (0, 0), [similarity(HOSTILE, 2, (3, 4))], note="a class")).size


def test_predicted_pixels_are_outlined_in_the_colour_of_the_class():
    predicted = np.zeros((64, 64), bool)
    predicted[16:48, 16:48] = True
    drawn = opened(render_stage_grid(GREY, [ExplainedClass("square", (255, 0, 0), predicted)], stages(1, 0.5)))
    rows, columns = np.nonzero((drawn[..., 0] > 220) & (drawn[..., 1] < 60) & (drawn[..., 2] < 60))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=4) == pytest.approx(CELL_HEIGHT / 2, abs=8)


def test_a_single_decoder_is_its_own_sum():
    classes = [ExplainedClass("a", (255, 0, 0), np.zeros((64, 64), bool))]
    one, two, three = (opened(render_stage_grid(GREY, classes, stages(count))).shape[1] for count in (1, 2, 3))
    # One decoder has one column, two have two and their sum.
    assert two - one == 2 * (three - two)


@pytest.mark.parametrize("blocks", [1, 6])
def test_all_colours_of_the_scale_stand_in_one_bar_below_the_maps(blocks: int):
    flat = PatchSimilarity("a", np.full((blocks, 4, 4), -0.5, np.float32), (0, 0))
    below = opened(render_similarity_grid(GREY, (0, 0), [flat]))[CELL_HEIGHT + 4 * MARGIN :]
    bar = below[np.argmax((np.abs(below - np.array(SEQUENTIAL[-1])).sum(axis=-1) < 6).any(axis=1))]
    places = [np.flatnonzero(np.abs(bar - np.array(colour)).sum(axis=-1) < 6) for colour in SEQUENTIAL]
    assert all(len(place) for place in places)
    assert np.all(np.diff([place.mean() for place in places]) > 0)
