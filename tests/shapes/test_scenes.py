import numpy as np
import pytest

from cascade_clip.shapes.classes import THINGS
from cascade_clip.shapes.scenes import LEAST_VISIBLE, draw_scene
from cascade_clip.shapes.things import DISTANCES, local_axes


def test_same_seed_same_scene_bit_for_bit():
    first, second = draw_scene([3, 5]), draw_scene([3, 5])
    assert first.image.tobytes() == second.image.tobytes()
    assert first.label.tobytes() == second.label.tobytes()
    assert first.caption == second.caption
    assert first.image.tobytes() != draw_scene([3, 6]).image.tobytes()


@pytest.mark.parametrize("size", [48, 64, 128, 256])
def test_shapes_and_types(size):
    scene = draw_scene(1, size=size)
    assert scene.image.shape == (size, size, 3)
    assert scene.label.shape == (size, size)
    assert scene.image.dtype == scene.label.dtype == np.uint8


def test_labels_are_those_of_objects_and_stuff_and_counts_agree():
    for seed in range(30):
        scene = draw_scene(seed)
        drawn = {item.label for item in scene.objects} | set(scene.stuff)
        assert set(np.unique(scene.label)) == drawn
        for label in {item.label for item in scene.objects}:
            counted = sum(item.visible for item in scene.objects if item.label == label)
            assert counted == np.count_nonzero(scene.label == label)


def test_every_thing_stays_in_view():
    for seed in range(40):
        for item in draw_scene(seed, things=(6, 6)).objects:
            y, x = local_axes(item.pose, 0, 0, 128, 128)
            whole = np.count_nonzero(DISTANCES[THINGS[item.label].shape](y, x) < 0)
            assert item.visible >= LEAST_VISIBLE * whole - 1


def test_topmost_thing_is_labelled_exactly_where_its_outline_is():
    scene = draw_scene(11, things=(3, 3))
    top = scene.objects[-1]
    y, x = local_axes(top.pose, 0, 0, 128, 128)
    inside = DISTANCES[THINGS[top.label].shape](y, x) < 0
    assert (scene.label[inside] == top.label).all()
