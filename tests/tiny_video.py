"""Tiny videos, drawn in code: a red field from the left that gives way to blue from the right."""

from __future__ import annotations

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
    file: Path, *, frames: int = 25, size: tuple[int, int] = (64, 96), sound: str | None = None, rotation: int = 0
) -> Path:
    """Write a video of 10 frames a second, with a silent sound track where a codec is named."""
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        audio = container.add_stream(sound, rate=48000) if sound else None
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(frame(number, frames, size), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio is not None:
            samples = 1024
            for number in range(round(frames / RATE * 48000 / samples)):
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="flt", layout="mono")
                quiet.sample_rate, quiet.pts, quiet.time_base = 48000, number * samples, Fraction(1, 48000)
                container.mux(audio.encode(quiet))
            container.mux(audio.encode(None))
    return file
