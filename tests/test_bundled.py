"""The model that comes with the toolkit: no network, a good picture seconds after the install."""

import numpy as np

from cascade_clip import CascadeCLIP, get_split
from cascade_clip.shapes.classes import CLASS_NAMES
from cascade_clip.shapes.scenes import draw_scene

HELD_OUT_SEED = 77_001


def test_segments_scenes_it_has_never_seen():
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
