"""The model that comes with the toolkit: no network, a good picture seconds after the install."""

from __future__ import annotations

import numpy as np

from cascade_clip import CascadeCLIP, get_split
from cascade_clip.shapes.classes import CLASS_NAMES
from cascade_clip.shapes.scenes import draw_scene

HELD_OUT_SEED = 77_001


def test_segments_scenes_it_has_never_seen() -> None:
    """Above floors set well below its card; unseen classes are judged on their own pixels."""
    model = CascadeCLIP.from_pretrained("bundled")
    assert model.split is not None
    assert model.split.class_names == CLASS_NAMES
    assert model.split.unseen == get_split("shapes-seen").unseen
    scenes = [draw_scene([HELD_OUT_SEED, number], size=128) for number in range(12)]
    results = model.segment([scene.image for scene in scenes], split="shapes-seen")
    right = np.concatenate([(r.labels == s.label).ravel() for r, s in zip(results, scenes, strict=True)])
    unseen = np.concatenate([np.isin(s.label, model.split.unseen_indices).ravel() for s in scenes])
    assert unseen.mean() > 0.05
    assert right.mean() > 0.6
    assert right[unseen].mean() > 0.3


def test_absent_classes_are_hardly_named() -> None:
    """Of a vocabulary with absent classes these take less than a tenth of a scene."""
    scene = draw_scene([HELD_OUT_SEED, 3], size=128)
    present = [CLASS_NAMES[index] for index in np.unique(scene.label)]
    absent = [name for name in ("lava", "marble", "cloudy sky") if name not in present][:2]
    result = CascadeCLIP.from_pretrained("bundled").segment(scene.image, [*present, *absent])[0]
    assert (result.labels >= len(present)).mean() < 0.1
