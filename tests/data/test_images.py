"""Every common kind of image becomes 8-bit RGB; broken ones become one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.data import images
from cascade_clip.data.images import decode_label, encode_label, image_size, open_image
from cascade_clip.errors import UserError


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_by_path_and_by_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(_encoded(Image.fromarray(pixels)))
    assert np.array_equal(open_image(path), pixels)
    assert np.array_equal(open_image(path.read_bytes()), pixels)
    assert image_size(path) == (4, 6)


def test_orientation_is_applied() -> None:
    image = Image.new("RGB", (6, 4), "blue")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    content = _encoded(image, exif=exif)
    turned = open_image(content)
    assert turned.shape == (6, 4, 3)
    assert image_size(content) == (6, 4)
    assert turned[0, 3].tolist() == [255, 0, 0]


def _sixteen_bit() -> Image.Image:
    return Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))


def _palette() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="L")
    image = image.convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    return image


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.fromarray(np.array([[7, 200]], np.uint8)), "PNG", [[7, 7, 7], [200, 200, 200]]),
        (_sixteen_bit(), "PNG", [[0] * 3, [1] * 3, [128] * 3, [255] * 3]),
        (Image.fromarray(np.array([[True, False]])), "PNG", [[255] * 3, [0] * 3]),
        (_palette(), "PNG", [[10, 20, 30], [200, 100, 50]]),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 0)), "PNG", [[255, 255, 255]]),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)), "PNG", [[255, 0, 0]]),
        (Image.new("LA", (1, 1), (0, 51)), "PNG", [[204, 204, 204]]),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF", [[255, 0, 0]]),
    ],
    ids=["grey", "16-bit", "1-bit", "palette", "transparent", "opaque", "grey-alpha", "cmyk"],
)
def test_modes(image: Image.Image, kind: str, expected: list[list[int]]) -> None:
    pixels = open_image(_encoded(image, kind))
    assert pixels.dtype == np.uint8
    assert pixels[0].tolist() == expected


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = _encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "JPEG")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text.png"
    text.write_text("no image")
    for path in (cut, text):
        with pytest.raises(UserError, match=rf"{path.name} cannot be read: it is broken"):
            open_image(path)
    with pytest.raises(UserError, match=r"There is no image .*none\.png\."):
        open_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder, an image file was expected"):
        open_image(tmp_path)
    with pytest.raises(UserError, match="photo 3 cannot be read"):
        open_image(b"", name="photo 3")


def test_floating_point_is_refused() -> None:
    with pytest.raises(UserError, match="floating-point values"):
        open_image(_encoded(Image.new("F", (2, 2)), "TIFF"))


def test_very_large_images_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _encoded(Image.new("L", (40, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_image(content).shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="has 40 x 30 pixels, at most 1,000 are read"):
        open_image(content)


def test_palette_labels_keep_their_indices() -> None:
    assert decode_label(_encoded(_palette())).tolist() == [[0, 1]]


def test_labels_survive_encoding() -> None:
    label = np.random.default_rng(0).integers(0, 256, (5, 9), dtype=np.uint8)
    content = encode_label(label)
    assert Image.open(io.BytesIO(content)).mode == "L"
    assert np.array_equal(decode_label(content), label)


def test_labels_of_other_kinds() -> None:
    assert decode_label(_encoded(Image.fromarray(np.array([[3, 255]], np.uint16)))).tolist() == [[3, 255]]
    assert decode_label(_encoded(Image.fromarray(np.array([[True, False]])))).tolist() == [[1, 0]]
    with pytest.raises(UserError, match="values up to 300"):
        decode_label(_encoded(Image.fromarray(np.array([[3, 300]], np.uint16))))
    with pytest.raises(UserError, match=r"is a colour image \(RGB\)"):
        decode_label(_encoded(Image.new("RGB", (2, 2))))
