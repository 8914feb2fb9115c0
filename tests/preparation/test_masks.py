"""Masks become labels; values that are unknown or were not meant are told, or read by what the user says of them."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from foreign_data import encode_mask, write_parquet
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.dataset_location import dataset_folder
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.masks import ColourMasks, IndexMasks, check_formats, colours_in_order, read_mat
from cascade_clip.preparation.prepare_folder import prepare_folder
from cascade_clip.preparation.prepare_hub import prepare_hub
from cascade_clip.preparation.source_tree import Entry

TRUTH = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]], np.uint8)
TWO = ["background", "thing"]
BLACK_AND_WHITE = {"background": (0, 0, 0), "thing": (255, 255, 255)}

Save = Callable[[NDArray[np.uint8], Path], object]


def _prepare(folder: Path, save: Save, suffix: str = "png", **options: object) -> DatasetInfo:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for index in range(3):
        Image.new("RGB", (4, 3), (index, 0, 0)).save(folder / "images" / f"{index}.png")
        save(TRUTH, folder / "masks" / f"{index}.{suffix}")
    arguments: dict[str, object] = {"name": "mine", "classes": TWO} | options
    return prepare_folder(folder / "out", images=folder / "images", masks=folder / "masks", **arguments)  # type: ignore[arg-type]


def _label(folder: Path) -> NDArray[np.uint8]:
    return decode_label(PreparedDataset.open(folder / "out").read("train", 0).label_bytes)


def _grey(label: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(label * 255).save(path)


def _bits(label: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(label * 255).convert("1", dither=0).save(path)


def _palette(label: NDArray[np.uint8], path: Path, colours: str = "#000000 #c80000", **options: object) -> None:
    image = Image.fromarray(label).convert("P")
    image.putdata(label.ravel().tolist())
    image.putpalette([channel for colour in colours.split() for channel in bytes.fromhex(colour[1:])])
    image.save(path, **options)


def _rgba(label: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(np.dstack([label * 200, label * 0, label * 0, label * 255])).save(path)


RED = {"background": (0, 0, 0), "thing": (200, 0, 0)}


@pytest.mark.parametrize(
    ("save", "suffix", "options"),
    [
        *((_grey, suffix, {"mask_values": [0, 255]}) for suffix in ("png", "tif", "bmp", "pgm", "tga")),
        *((_grey, suffix, {"colours": BLACK_AND_WHITE}) for suffix in ("png", "tif", "bmp")),
        *((_bits, suffix, {}) for suffix in ("png", "bmp", "pbm", "tif")),
        (lambda label, path: Image.fromarray(label.astype(np.uint16)).save(path), "tif", {}),
        (lambda label, path: Image.fromarray(label.astype(np.int32)).save(path), "tif", {}),
        (
            lambda label, path: Image.fromarray(np.dstack([label * 255] * 3)).save(path),
            "png",
            {"colours": BLACK_AND_WHITE},
        ),
        (lambda label, path: Image.fromarray(label * 7 + 3).save(path), "png", {"mask_values": [3, 10]}),
        (lambda label, path: Image.fromarray(1 - label).save(path), "png", {"mask_values": [1, 0]}),
        (_palette, "png", {}),
        (_palette, "png", {"colours": RED}),
        (lambda label, path: _palette(label, path, transparency=0), "png", {}),
        (lambda label, path: _palette(label, path, transparency=0), "png", {"colours": RED}),
        (lambda label, path: _palette(label, path, transparency=bytes([0, 128])), "png", {"colours": RED}),
        (_rgba, "png", {"colours": RED}),
        (_rgba, "tif", {"colours": RED}),
    ],
)
def test_two_classes_in_every_encoding(tmp_path, save: Save, suffix: str, options: dict[str, object]):
    info = _prepare(tmp_path, save, suffix, **options)
    assert np.array_equal(_label(tmp_path), TRUTH)
    assert sum(part.ignored_pixels for part in info.parts.values()) == 0


@pytest.mark.parametrize(
    ("save", "suffix", "options", "said"),
    [
        (_grey, "png", {}, r'255, which means no class, and none is "thing"\. .*--mask-values 0,255\. .*--ignore 255'),
        (_grey, "png", {"classes": ["thing"]}, r'every other pixel is "thing"\. .* --mask-values 255 --ignore 0\.'),
        (lambda label, path: Image.fromarray(label | 255).save(path), "png", {}, "No pixel of the masks has a class"),
        (lambda label, path: Image.fromarray(label.astype(np.uint16) * 65535).save(path), "png", {}, "from 0 to 65535"),
        (lambda label, path: Image.fromarray(label.astype(np.float32)).save(path), "tif", {}, "floating-point values"),
        (lambda label, path: Image.fromarray(label).convert("LA").save(path), "png", {}, "channel, transparency"),
        (_rgba, "png", {}, r"is a colour image \(RGBA\)"),
        (_rgba, "png", {"colours": {"snow": (255, 255, 255), "thing": (200, 0, 0)}, "classes": ["snow", "thing"]},
         "holds the colour #000000, which is no class"),
        (_palette, "gif", {}, "is a GIF file, a format that renumbers class numbers"),
        (_grey, "jpg", {}, "is a JPEG file, a format that may change class numbers: save masks as PNG"),
        (_grey, "webp", {}, "is a WebP file"),
        (_grey, "avif", {}, "is an AVIF file"),
        (lambda label, path: Image.fromarray(np.dstack([label] * 3)).save(path, compression="jpeg"), "tif",
         {"colours": RED}, "is a TIFF file with lossy compression"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_sentence(tmp_path, save: Save, suffix: str, options: dict[str, object], said: str):
    with pytest.raises(UserError, match=said):
        _prepare(tmp_path, save, suffix, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "masks"]


def test_255_may_be_said_to_mean_no_class(tmp_path, caplog):
    info = _prepare(tmp_path, _grey, ignore=["255"])
    assert info.parts["train"].pixels[1] == 0
    assert not caplog.messages


def test_a_class_whose_value_is_ignored_is_told(tmp_path, caplog):
    for folder in ("indices", "colours"):
        (tmp_path / folder).mkdir()
    _prepare(tmp_path / "indices", _bits, ignore=["0"])
    assert '--ignore takes the pixels of "background", so that the dataset has none of this class. If' in caplog.text
    caplog.clear()
    _prepare(tmp_path / "colours", _rgba, colours=RED, ignore=["#c80000"])
    assert '--ignore takes the pixels of "thing", so that the dataset has none of this class.' in caplog.text


@pytest.mark.parametrize(("others", "named"), [(2, '"c0", "c1"'), (7, '"c0", "c1", "c2", "c3", "c4" ...')])
def test_a_class_without_a_pixel_beside_255_is_told(tmp_path, caplog, others: int, named: str):
    _prepare(tmp_path, _grey, classes=["sky", *(f"c{index}" for index in range(others))])
    (said,) = caplog.messages
    assert said.startswith(f"No mask holds {named}, while the value 255 occurs, which means no")


def test_the_first_mask_alone_does_not_tell_the_format(tmp_path):
    wrong, right = _mask(tmp_path, np.zeros((2, 2, 3)), "rgb.png"), _mask(tmp_path, np.zeros((2, 2)))
    check_formats([wrong, right])
    with pytest.raises(UserError, match="is a colour image"):
        check_formats([wrong, wrong])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask_values": [0]}, "--mask-values 0 has 1 value for 2 classes; give one for each, in order"),
        ({"mask_values": [0, 0]}, "--mask-values 0,0 must be different values of 0 to 255"),
        ({"mask_values": [0, 256]}, "must be different values of 0 to 255"),
        ({"mask_values": [0, 255], "first_index": 1}, "and --first-index 1 contradict each other"),
        ({"mask_values": [0, 255], "ignore": ["255"]}, "and --ignore 255 contradict each other about the value 255"),
        ({"mask_values": [0, 255], "colours": BLACK_AND_WHITE}, "with a colour table, colours tell the class"),
    ],
)
def test_mask_values_that_do_not_fit(tmp_path, options: dict[str, object], said: str):
    with pytest.raises(UserError, match=said):
        _prepare(tmp_path, _grey, **options)


@pytest.mark.parametrize(
    ("palettes", "said"),
    [
        (["#000000 #c80000"] * 3, None),
        (["#000000 #c80000", "#000000 #c80000 #00ff00", "#000000 #c80000"], None),
        (["#000000 #c80000", "#c80000 #000000", "#000000 #c80000"], "index 0 is #000000 in .*0.png and #c80000 in .*1"),
        (["#000000 #c80000", "#000000 #c80000", "#000000 #c80001"], "index 1 is #c80000 in .*0.png and #c80001 in .*2"),
    ],
)  # fmt: skip
def test_palettes_that_disagree_are_told(tmp_path, caplog, palettes: list[str], said: str | None):
    _prepare(tmp_path, lambda label, path: _palette(label, path, palettes[int(path.stem)]))
    assert len(caplog.messages) == (said is not None)
    assert said is None or re.match(f"Palettes of the masks disagree: the {said}", caplog.messages[0])


def test_white_as_the_first_index_is_told(tmp_path, caplog):
    _prepare(tmp_path, lambda label, path: _palette(label, path, "#ffffff #000000"), "bmp")
    (said,) = caplog.messages
    assert "0.bmp white has the index 0 and black the index 1." in said
    assert "--mask-values 1,0" in said


def test_one_colour_under_two_indices_is_told(tmp_path, caplog):
    def save(label: NDArray[np.uint8], path: Path) -> None:
        moved = path.stem == "2"
        _palette(label * 2 if moved else label, path, "#000000 #00ff00 #c80000" if moved else "#000000 #c80000 #0000ff")

    _prepare(tmp_path, save, classes=["a", "b", "c"])
    assert "#c80000 is the index 1 in" in caplog.text


def test_images_that_look_black_and_masks_that_were_turned_are_told_once(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x0112] = 3

    def save(label: NDArray[np.uint8], path: Path) -> None:
        high = 1000 if path.stem == "1" else 500
        Image.fromarray(np.full((3, 4), high, np.uint16)).save(tmp_path / "images" / f"{path.stem}.png", exif=exif)
        Image.fromarray(label).save(path)

    _prepare(tmp_path, save)
    hint, turned = caplog.messages
    assert "1.png has 16 bits a channel but no value above 1,000" in hint
    assert turned.startswith(
        f"Masks without an EXIF orientation were turned as their images are, {tmp_path}/masks/0.png"
    )
    assert np.array_equal(_label(tmp_path), TRUTH[::-1, ::-1])


def test_rows_in_black_and_white(tmp_path):
    def mask(index: int) -> bytes:
        label = np.zeros((30 + index % 3, 40), np.uint8)
        label[index:, :20] = 255
        return encode_mask(label)

    source = write_parquet(tmp_path / "source", mask=mask)
    with pytest.raises(UserError, match=r"hold 0 and 255 only, and 255 means no class\. .* --mask-values 0,255 if"):
        dataset_folder(_two_classes(source))
    with pytest.raises(UserError, match="which means no class, and none is"):
        prepare_hub(tmp_path / "out", source=source, classes=TWO)
    info = prepare_hub(tmp_path / "out", source=source, classes=TWO, mask_values=[0, 255])
    assert all(info.parts["train"].pixels)
    assert info.parts["train"].ignored_pixels == 0
    assert info.options["mask_values"] == ["0", "255"]


def _two_classes(source: Path) -> Path:
    (source / "classes.txt").write_text("\n".join(TWO))
    return source


def _mask(folder: Path, values: object, name: str = "mask.png") -> Entry:
    path = folder / name
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return Entry.of(path)


@pytest.mark.parametrize(
    ("masks", "values", "message"),
    [
        (IndexMasks(2), [[0, 2]], "holds the value 2, which is no class: the values of 2 classes are 0 to 1"),
        (IndexMasks(2), [[7, 2]], "holds the values 2, 7, which"),
        (IndexMasks(2), [[2, 3, 4, 5, 6]], "holds the values 2, 3, 4, 5, 6, which"),
        (IndexMasks(2), [[2, 3, 4, 5, 6, 7]], r"holds the values 2, 3, 4, 5, 6 \.\.\., which"),
        (IndexMasks(2, first_index=1), [[0, 1]], "holds the value 0, which is no class: .* classes are 1 to 2"),
    ],
)
def test_values_outside_are_named(tmp_path, masks: IndexMasks, values: list[list[int]], message: str):
    with pytest.raises(UserError, match=rf"mask\.png {message}"):
        masks(_mask(tmp_path, values))


def test_what_is_ignored_is_so_whatever_class_has_the_value(tmp_path):
    assert IndexMasks(3, ignore=frozenset({1, 9}))(_mask(tmp_path, [[0, 1, 2, 9]])).tolist() == [[0, 255, 2, 255]]
    assert IndexMasks(255).stored_values(np.array([[254, 255]], np.uint8)) == [254]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, -1]], "numbers from -1 to 0; label maps of VOC have whole numbers of 0 to 20"),
        ([[0, 21]], "numbers from 0 to 21"),
        ([[0.5, 1]], "numbers from 0.5 to 1.0"),
        ([[[1], [2]]], "cannot be read as a label map of VOC"),
        ([[0, 20]], None),
    ],
)
def test_matlab_files_hold_whole_numbers_of_classes(tmp_path, values: object, message: str | None):
    savemat(tmp_path / "x.mat", {"labels": np.array(values)})
    entry = Entry.of(tmp_path / "x.mat")
    with pytest.raises(UserError, match=message) if message else nullcontext():
        assert read_mat(entry, "VOC", lambda content: content["labels"], largest=20).tolist() == values


def test_colours_become_their_class_and_unknown_ones_are_named(tmp_path):
    pixels = [[(0, 0, 1), (128, 0, 0), (0, 0, 0), (255, 255, 255), (255, 255, 255)]]
    mask = _mask(tmp_path, pixels)
    colours, white = ((128, 0, 0), (0, 0, 1)), (255, 255, 255)
    assert ColourMasks(colours, ignore=frozenset({(0, 0, 0), white}))(mask).tolist() == [[1, 0, 255, 255, 255]]
    with pytest.raises(UserError, match=r"mask\.png holds the colour #ffffff, which is no class"):
        ColourMasks(colours, ignore=frozenset({(0, 0, 0)}))(mask)


def test_colours_follow_the_classes():
    assert colours_in_order(["a", "b"], {"b": (1, 1, 1), "a": (2, 2, 2)}) == ((2, 2, 2), (1, 1, 1))
    with pytest.raises(UserError, match=r"no colour for b\. The colour table names c, which is no class"):
        colours_in_order(["a", "b"], {"a": (1, 1, 1), "c": (2, 2, 2)})
