"""A mask is turned as its image is, whichever of them carries the EXIF orientation and whatever its format."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.image_file import TURNS
from cascade_clip.data.images import check_image, decode_label, mask_colours, open_image, orientation_of
from cascade_clip.data.mask_values import fit_label
from cascade_clip.errors import UserError

LABEL = np.arange(12, dtype=np.uint8).reshape(3, 4)
"""No two pixels are alike, so that each of the eight orientations gives another label."""


def _file(pixels: NDArray[np.uint8], kind: str, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    if orientation > 1:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def _turned(label: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(label).transpose(TURNS[orientation])) if orientation > 1 else label


def _fit(image: bytes, mask: bytes) -> tuple[NDArray[np.uint8], bool]:
    fitted = fit_label(decode_label(mask), check_image(image), lambda: orientation_of(mask), "m.png", "its image i.jpg")
    return fitted.label, fitted.assumed


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 100}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("AVIF", {})],
)
def test_images_of_every_format_are_turned_with_their_masks(kind: str, options: dict[str, object], orientation: int):
    grey = np.kron(LABEL * 20, np.ones((16, 16), np.uint8))
    image = _file(np.dstack([grey] * 3), kind, orientation, **options)
    mask = _file(np.kron(LABEL, np.ones((16, 16), np.uint8)), "PNG", 1)
    label, assumed = _fit(image, mask)
    assert assumed == (orientation in {2, 3, 4})
    assert np.array_equal(label[::16, ::16], _turned(LABEL, orientation))
    # The image shows under every pixel of the label what belongs to it.
    assert np.abs(open_image(image)[8::16, 8::16, 0].astype(int) - label[8::16, 8::16] * 20).max() < 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("image_orientation", [1, "same"])
def test_a_mask_is_turned_by_its_own_orientation(kind: str, orientation: int, image_orientation: int | str):
    mask = _file(LABEL, kind, orientation)
    upright = _turned(LABEL, orientation)
    if image_orientation == "same":
        image = _file(np.dstack([LABEL] * 3), "JPEG", orientation)
    else:
        image = _file(np.dstack([upright] * 3), "JPEG", 1)
    label, assumed = _fit(image, mask)
    assert not assumed
    assert np.array_equal(label, upright)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_colour_masks_are_turned_too(kind: str, orientation: int):
    options = {"lossless": True} if kind == "WEBP" else {}
    colours = mask_colours(_file(np.dstack([LABEL] * 3), kind, orientation, **options), "mask")
    assert np.array_equal(colours[..., 1], _turned(LABEL, orientation))


def test_a_mask_drawn_on_the_upright_image_stays():
    upright = _turned(LABEL, 6)
    label, assumed = _fit(_file(np.dstack([LABEL] * 3), "JPEG", 6), _file(upright, "PNG", 1))
    assert not assumed
    assert np.array_equal(label, upright)


@pytest.mark.parametrize(
    ("image_orientation", "mask_orientation", "image_shape", "said"),
    [
        (1, 6, (3, 4), r"by its EXIF orientation: the mask's is 6\."),
        (6, 8, (4, 3), r"by its EXIF orientation: the image's is 6 and the mask's is 8\."),
        (1, 1, (4, 3), r"was the EXIF orientation lost when one was saved\?"),
        (6, 1, (5, 5), r"they must be equal\.$"),
    ],
)
def test_sizes_that_differ_by_exif_say_so(
    image_orientation: int, mask_orientation: int, image_shape: tuple[int, int], said: str
):
    image = _file(np.zeros((*image_shape, 3), np.uint8), "JPEG", image_orientation)
    with pytest.raises(UserError, match=f"^m.png has .* pixels, its image i.jpg has .*{said}"):
        _fit(image, _file(LABEL, "PNG", mask_orientation))


def test_what_is_no_image_has_no_orientation():
    assert orientation_of(b"MATLAB 5.0") == 1
    assert orientation_of(_file(LABEL, "PNG", 7)) == 7
