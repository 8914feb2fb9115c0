"""Every common kind of image becomes 8-bit RGB; broken ones become one sentence."""

import errno
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import BmpImagePlugin, Image

from cascade_clip.data import image_file
from cascade_clip.data.images import check_image, decode_label, encode_label, open_image
from cascade_clip.errors import UserError, readable


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_by_path_and_by_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(_encoded(Image.fromarray(pixels)))
    assert np.array_equal(open_image(path), pixels)
    assert np.array_equal(open_image(path.read_bytes()), pixels)
    assert check_image(path) == ((4, 6), 1, None)


def test_orientation_is_applied():
    image = Image.new("RGB", (6, 4), "blue")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    content = _encoded(image, exif=exif)
    turned = open_image(content)
    assert turned.shape == (6, 4, 3)
    assert check_image(content) == ((6, 4), 6, None)
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
def test_modes(image: Image.Image, kind: str, expected: list[list[int]]):
    pixels = open_image(_encoded(image, kind))
    assert pixels.dtype == np.uint8
    assert pixels[0].tolist() == expected


def test_broken_files_are_named(tmp_path):
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
    with pytest.raises(UserError, match=r"photo 3 cannot be read: it is empty \(0 bytes\)"):
        open_image(b"", name="photo 3")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.new("F", (2, 2)), "holds floating-point values"),
        (Image.fromarray(np.array([[0, 70000]], np.int32)), "holds values from 0 to 70,000; 0 to 65,535 are read"),
        (Image.fromarray(np.array([[-1, 5]], np.int32)), "holds values from -1 to 5; 0 to 65,535 are read"),
    ],
)
def test_values_that_are_not_8_or_16_bits_are_refused_by_whoever_reads_them(image: Image.Image, said: str):
    content = _encoded(image, "TIFF")
    for read in (open_image, check_image):
        with pytest.raises(UserError, match=said):
            read(content)


@pytest.mark.parametrize(
    ("image", "kind", "highest"),
    [
        (Image.fromarray(np.array([[0, 4095]], np.uint16)), "PNG", 4095),
        (Image.fromarray(np.array([[0, 4095]], np.uint16)), "TIFF", 4095),
        (Image.fromarray(np.array([[0, 200]], np.int32)), "TIFF", 200),
        (Image.fromarray(np.array([[0, 16384]], np.uint16)), "PNG", None),
        (Image.fromarray(np.array([[0, 0]], np.uint16)), "PNG", None),
        (Image.fromarray(np.array([[0, 200]], np.uint8)), "PNG", None),
    ],
)
def test_16_bits_of_which_few_are_used_get_a_hint(image: Image.Image, kind: str, highest: int | None):
    content = _encoded(image, kind)
    assert check_image(content).highest == highest
    hints: list[str] = []
    open_image(content, "scan.png", hint=hints.append)
    assert [hint.partition(". ")[0] for hint in hints] == (
        [] if highest is None else [f"scan.png has 16 bits a channel but no value above {highest:,}"]
    )


@pytest.mark.parametrize(
    ("width", "height", "fits"), [(1, 5000, False), (101, 1, False), (1, 100, True), (300, 3, True)]
)
def test_images_that_are_too_long_for_their_width_are_refused(width: int, height: int, fits: bool):
    content = _encoded(Image.new("L", (width, height)))
    for read in (open_image, check_image):
        if fits:
            read(content)
        else:
            with pytest.raises(
                UserError, match=r"may have at most 100 times as many as the shorter one.* Cut the image"
            ):
                read(content)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        *((kind("odd"), r"it is broken, .* of a known kind \(odd\)") for kind in (RuntimeError, struct.error)),
        (MemoryError(), "does not fit into memory; shrink it"),
        (OSError(errno.EIO, "Input/output error"), r"cannot be read: Input/output error\."),
    ],
    ids=repr,
)
def test_whatever_a_decoder_raises_is_one_sentence(monkeypatch, error: Exception, said: str):
    def load(_: object) -> None:
        raise error

    content = _encoded(Image.new("RGB", (2, 2)), "BMP")
    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, "load", load)
    for read in (open_image, check_image, decode_label):
        with pytest.raises(UserError, match=f"^a.bmp .*{said}"):
            read(content, "a.bmp")


def test_what_is_no_readable_file_is_said_before_it_is_opened(tmp_path):
    places = {name: tmp_path / name for name in ("empty.png", "pipe.png", "loop.png", "dangling.png", "secret.png")}
    places["empty.png"].touch()
    os.mkfifo(places["pipe.png"])
    places["loop.png"].symlink_to(places["loop.png"])
    places["dangling.png"].symlink_to(tmp_path / "gone.png")
    places["secret.png"].write_bytes(_encoded(Image.new("RGB", (2, 2))))
    for path, said in {
        places["empty.png"]: "cannot be read: it is empty",
        places["pipe.png"]: "is a pipe, socket or device, an image file was expected",
        places["loop.png"]: "it is a link that leads back to itself",
        places["dangling.png"]: r"^There is no image .*\. It is a link to a file that is not there\.",
        places["secret.png"] / "below.png": "cannot be read: Not a directory",
        tmp_path / ("n" * 300): "cannot be read: File name too long",
        tmp_path / "nul\0.png": "is no path: embedded null byte",
    }.items():
        for read in (open_image, check_image, decode_label):
            with pytest.raises(UserError, match=said):
                read(path)


def test_names_that_are_no_utf_8_are_shown_readably(tmp_path):
    path = tmp_path / os.fsdecode(b"gr\xfcn.png")
    with pytest.raises(UserError, match=r"There is no image .*gr\\xfcn\.png\.") as caught:
        open_image(path)
    assert str(caught.value).isascii()
    assert readable("gr\u00fcn.png") == "gr\u00fcn.png"


def test_damaged_exif_does_not_cost_the_image():
    content = _encoded(Image.new("RGB", (2, 3)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\0\0")
    assert open_image(content).shape == (3, 2, 3)


def test_very_large_images_have_a_limit_of_their_own(monkeypatch):
    content = _encoded(Image.new("L", (40, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_image(content).shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(image_file, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="has 40 x 30 pixels, at most 1,000 are read"):
        open_image(content)


def test_labels_survive_encoding():
    label = np.random.default_rng(0).integers(0, 256, (5, 9), dtype=np.uint8)
    content = encode_label(label)
    assert Image.open(io.BytesIO(content)).mode == "L"
    assert np.array_equal(decode_label(content), label)


def _grey_png(depth: int, packed: bytes) -> bytes:
    """A PNG of 4 x 1 grey pixels of few bits."""
    head = struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" + packed)), (b"IEND", b""))
    written = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _pages(size: tuple[int, int], kind: str, *, transparency: bool = False) -> bytes:
    buffer = io.BytesIO()
    label = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    second = label.rotate(90).resize(size)
    if transparency:
        second.encoderinfo = {"tiffinfo": {254: 4}}
    label.save(buffer, kind, save_all=True, append_images=[second])
    return buffer.getvalue()


def test_a_mask_keeps_grey_values_of_few_bits_and_may_have_smaller_copies():
    assert decode_label(_grey_png(2, b"\x1b")).tolist() == [[0, 1, 2, 3]]
    assert decode_label(_grey_png(4, b"\x01\x2f")).tolist() == [[0, 1, 2, 15]]
    assert decode_label(b"P5 4 1 255 \0\1\2\3").tolist() == [[0, 1, 2, 3]]
    assert decode_label(_pages((2, 2), "TIFF")).ravel().tolist() == list(range(16))
    assert decode_label(_pages((4, 4), "TIFF", transparency=True)).ravel().tolist() == list(range(16))


def test_masks_that_pillow_would_renumber_or_of_which_it_shows_one_page_are_refused():
    inverted = io.BytesIO()
    Image.new("L", (4, 4), 1).save(inverted, "TIFF", tiffinfo={262: 0})
    for mask, said in (
        (inverted.getvalue(), "inverted or by a scale of its own"),
        (b"P5 4 1 3 \0\1\2\3", "inverted or by a scale of its own"),
        (_pages((4, 4), "TIFF"), "holds 2 pages or frames; a mask is a single picture"),
        (_pages((4, 4), "PNG"), "holds 2 pages or frames; a mask is a single picture"),
    ):
        with pytest.raises(UserError, match=said):
            decode_label(mask)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "GIF"])
def test_several_pages_are_told_and_the_first_is_taken(kind: str):
    told: list[str] = []
    image = open_image(_pages((4, 4), kind), "stack", hint=told.append)
    assert image[..., 0].ravel().tolist() == list(range(16))
    assert told == ["stack holds 2 pages or frames, of which the first is taken."]


def test_damage_behind_the_first_page_does_not_concern_it():
    content = bytearray(_encoded(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)), "TIFF"))
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    struct.pack_into("<I", content, directory + 2 + 12 * entries, 5)  # the place of a next page, where none is
    assert open_image(bytes(content), hint=pytest.fail)[..., 0].ravel().tolist() == list(range(48))
    assert decode_label(bytes(content)).ravel().tolist() == list(range(48))
