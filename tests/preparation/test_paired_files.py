"""What all benchmarks of paired files have in common."""

import pytest
from official_miniatures import drawn_mask, write_ade20k, write_cityscapes, write_coco
from prepared_folder import ids

from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_dataset import prepare

TRAIN = {stem: drawn_mask(seed, [1, 7]) for seed, stem in enumerate(("aachen_0_1", "aachen_0_2", "zurich_0_1"))}
VAL = {"munster_0_1": drawn_mask(5, [7])}


@pytest.mark.parametrize(
    ("name", "write", "published"),
    [
        ("coco", write_coco, "118,287 and 5,000"),
        ("coco-object", write_coco, "118,287 and 5,000"),
        ("ade20k", write_ade20k, "20,210 and 2,000"),
        ("cityscapes", write_cityscapes, "2,975 and 500"),
    ],
)
def test_other_counts_are_an_error_unless_a_subset_is_asked_for(tmp_path, name: str, write, published: str):
    write(tmp_path / "source", train=TRAIN, val=VAL)
    with pytest.raises(UserError, match=rf"3 training and 1 validation images; published are {published}\. .*--subset"):
        prepare(name, tmp_path / "source", tmp_path / "out")
    info = prepare(name, tmp_path / "source", tmp_path / "out", subset=2)
    assert ids(tmp_path / "out") == {"train": [*TRAIN][:2], "val": [*VAL]}
    assert info.options == {"from": name, "subset": 2}
