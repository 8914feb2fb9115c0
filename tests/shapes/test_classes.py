import numpy as np

from cascade_clip.data.catalogue import get_split
from cascade_clip.shapes.classes import CLASS_NAMES, THINGS, stuff_index
from cascade_clip.shapes.scenes import draw_scene


def test_classes_are_44_distinct_names_things_first():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 44
    assert CLASS_NAMES[: len(THINGS)] == tuple(thing.name for thing in THINGS)
    assert stuff_index("grass") == 32
    assert CLASS_NAMES[stuff_index("lava")] == "lava"


def test_attributes_of_unseen_things_occur_in_at_least_two_seen_classes():
    unseen = get_split("shapes-seen").unseen
    seen = [thing for thing in THINGS if thing.name not in unseen]
    hidden = [thing for thing in THINGS if thing.name in unseen]
    assert len(hidden) == 7
    for thing in hidden:
        assert sum(other.shape == thing.shape for other in seen) >= 2
        assert sum(other.colour == thing.colour for other in seen) >= 2
        assert sum(other.pattern == thing.pattern for other in seen) >= 2


def test_class_list_file_agrees():
    everything, seen = get_split("shapes"), get_split("shapes-seen")
    assert everything.class_names == seen.class_names == CLASS_NAMES
    assert everything.unseen == frozenset()
    assert len(seen.unseen) == 10
    assert len(set(seen.colours)) == len(CLASS_NAMES)


def test_class_list_of_things_is_the_beginning_of_the_whole_one():
    things, whole = get_split("shapes-things-seen"), get_split("shapes-seen")
    assert things.classes == whole.classes[: len(THINGS)]
    assert things.unseen == whole.unseen & set(things.class_names)
    assert len(things.unseen) == 7


def test_caption_names_what_is_there_and_nothing_else():
    for seed in range(60):
        scene = draw_scene(seed)
        rest = scene.caption
        named = set()
        for name in sorted(CLASS_NAMES, key=len, reverse=True):
            if name in rest:
                named.add(CLASS_NAMES.index(name))
                rest = rest.replace(name, "")
        assert named == set(np.unique(scene.label)), scene.caption
