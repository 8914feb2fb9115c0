"""Which mask belongs to which image, and which pairs train."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_folder import choose_parts, pair_files


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def _pairs(images: Path, masks: Path) -> dict[str, str]:
    return {name: pair.mask.container.relative_to(masks).as_posix() for name, pair in pair_files(images, masks).items()}


def test_equal_names_with_other_endings_match(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", "b.JPG", "a.jpeg", "notes.txt", ".hidden.png")
    masks = _touch(tmp_path / "m", "a.png", "b.png")
    assert _pairs(images, masks) == {"a": "a.png", "b": "b.png"}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("x/a.jpg", "x/a.png"),
        ("a.jpg", "a_mask.png"),
        ("train/a.jpg", "a_gt.png"),
        ("a.jpg", "deep/er/a_labelTrainIds.png"),
        ("c/a_leftImg8bit.png", "c/a_gtFine_labelIds.png"),
    ],
)
def test_folders_and_roles(tmp_path: Path, image: str, mask: str) -> None:
    images, masks = _touch(tmp_path / "i", image, f"{image[:-5]}b.jpg"), _touch(tmp_path / "m", mask)
    (images / f"{image[:-5]}b.jpg").unlink()
    assert _pairs(images, masks) == {image.rpartition(".")[0]: mask}


def test_same_names_in_sub_folders_are_told_apart(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", "day/1.jpg", "night/1.jpg")
    masks = _touch(tmp_path / "m", "day/1.png", "night/1.png")
    assert _pairs(images, masks) == {"day/1": "day/1.png", "night/1": "night/1.png"}


def test_missing_and_left_over_masks_are_all_named(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", "a.jpg", "b.jpg", "c.jpg")
    masks = _touch(tmp_path / "m", "a.png", "d.png")
    with pytest.raises(UserError) as caught:
        pair_files(images, masks)
    assert str(caught.value).splitlines() == [
        "3 problems were found; nothing was written:",
        f"  {images / 'b.jpg'} has no mask in {masks}.",
        f"  {images / 'c.jpg'} has no mask in {masks}.",
        f"  {masks / 'd.png'} has no image in {images}.",
    ]


def test_two_images_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", "a.jpg", "a.png", "b.jpg")
    with pytest.raises(UserError, match=r"a\.jpg and a\.png in .* have the same name"):
        pair_files(images, _touch(tmp_path / "m", "a.png", "b.png"))


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", "a.jpg")
    with pytest.raises(UserError, match=r"The folder of masks, .*none, is not there"):
        pair_files(images, tmp_path / "none")
    with pytest.raises(UserError, match=r"The folder of masks, .*m, holds no image file"):
        pair_files(images, _touch(tmp_path / "m", "a.npy"))
    with pytest.raises(UserError, match="they must lie in different folders"):
        pair_files(images, images)


IDS = ["day/1", "day/2", "night/3", "night/4", "night/5"]


def _choose(train: Path | None = None, val: Path | None = None, fraction: float = 0.4, seed: int = 0) -> dict:
    return dict(choose_parts(IDS, train_list=train, val_list=val, val_fraction=fraction, seed=seed))


def _list(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_drawn_fraction_repeats_with_its_seed() -> None:
    chosen = _choose()
    assert len(chosen["val"]) == 2
    assert sorted(chosen["train"] + chosen["val"]) == IDS
    assert _choose() == chosen
    assert any(_choose(seed=seed) != chosen for seed in range(1, 5))
    assert _choose(fraction=0.0)["val"] == []
    assert len(_choose(fraction=0.01)["val"]) == 1
    assert len(_choose(fraction=0.99)["train"]) == 1


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(UserError, match="must be at least 0 and below 1"):
        _choose(fraction=fraction)


def test_lists_in_any_spelling(tmp_path: Path) -> None:
    val = _list(tmp_path, "val.txt", "night/4.jpg", "1", "", "day/2")
    assert _choose(val=val) == {"train": ["night/3", "night/5"], "val": ["night/4", "day/1", "day/2"]}
    train = _list(tmp_path, "train.txt", "5.png")
    assert _choose(train=train, val=val)["train"] == ["night/5"]
    assert _choose(train=train)["val"] == ["day/1", "day/2", "night/3", "night/4"]
    flat = choose_parts(
        ["a", "b"], train_list=None, val_list=_list(tmp_path, "v", "JPEG/b.jpg"), val_fraction=0, seed=0
    )
    assert flat["val"] == ["b"]


def test_mistakes_in_lists_are_all_named(tmp_path: Path) -> None:
    train = _list(tmp_path, "train.txt", "day/1", "day/1.jpg", "nigth/3")
    val = _list(tmp_path, "val.txt", "1")
    with pytest.raises(UserError) as caught:
        _choose(train, val)
    assert str(caught.value).splitlines() == [
        "3 problems were found; nothing was written:",
        f'  {train}: "day/1.jpg" stands there more than once.',
        f'  {train}: "nigth/3" is none of the images. Did you mean "night/3" or "night/5" or "night/4"?',
        '  "day/1" is in both lists, for training and for validation.',
    ]
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        _choose(tmp_path / "none.txt")
