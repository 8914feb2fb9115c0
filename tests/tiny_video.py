"""Tiny videos, drawn in code: a red field from the left that gives way to blue from the right."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

RATE = 10


def frame(number: int, frames: int, size: tuple[int, int]) -> np.ndarray:
    """Frame (H, W, 3): red, and blue in the right `number / frames` of it."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 255
    blue = round(width * number / frames)
    image[:, width - blue :] = (0, 0, 255)
    return image


def write_video(
    file: Path,
    *,
    frames: int = 25,
    size: tuple[int, int] = (64, 96),
    sound: str | None = None,
    matrix: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    times: Sequence[float] | None = None,
    sound_seconds: float | None = None,
) -> Path:
    """Write a video of 10 frames a second, with a silent sound track where a codec is named.

    `matrix` (a, b, c, d) turns an MP4 file's picture: (x, y) is shown at (a x + c y, b x + d y). `aspect` is the width
    of a pixel in heights; `times` are those of the frames in seconds, if they are uneven or begin late;
    `sound_seconds` is the length of the sound, if it is not theirs.
    """
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        audio = container.add_stream(sound, rate=48000) if sound else None
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(frame(number, frames, size), format="rgb24")
            if times is not None:
                picture.time_base, picture.pts = Fraction(1, RATE), round(times[number] * RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio is not None:
            samples = audio.codec_context.frame_size or 1024
            for number in range(round((sound_seconds or frames / RATE) * 48000 / samples)):
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="flt", layout="mono")
                quiet.sample_rate, quiet.pts, quiet.time_base = 48000, number * samples, Fraction(1, 48000)
                container.mux(audio.encode(quiet))
            container.mux(audio.encode(None))
    if matrix is not None:
        content = bytearray(file.read_bytes())
        a, b, c, d = (value << 16 for value in matrix)
        # The track's header holds a matrix of 9 numbers 44 bytes behind its name.
        struct.pack_into(">9i", content, content.find(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
        file.write_bytes(content)
    return file
