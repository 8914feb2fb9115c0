"""An MP4 file that is written frame by frame, with the sound of another file."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

COPIED_AUDIO = frozenset({"aac", "ac3", "alac", "mp3", "opus"})
"""Sound that an MP4 file holds as it is; other sound is left out."""
QUALITY = {"libx264": {"crf": "20", "preset": "medium"}, "mpeg4": {"q": "3"}}


class VideoWriter:
    """An MP4 file in the making."""

    def __init__(
        self, av: ModuleType, place: Path, source: InputContainer, size: tuple[int, int], rate: Fraction
    ) -> None:
        """Begin a file.

        Args:
            av: PyAV.
            place: The file; its folder is made where it does not exist.
            source: The video whose times and sound are kept.
            size: Width and height of the frames.
            rate: Frames a second, on average.

        Raises:
            OSError: The file cannot be written.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._av = av
        video_in: VideoStream = source.streams.video[0]
        self._container: OutputContainer = av.open(str(place), "w", format="mp4")
        self._video: Any = self._container.add_stream(codec, rate=rate, options=QUALITY[codec])
        self._video.width, self._video.height = size
        # Half the colour resolution is what every player reads, but it needs even sides.
        self._video.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        self._clock: Fraction = video_in.time_base or 1 / rate
        self._video.codec_context.time_base = self._clock
        self.read: list[Stream] = [video_in]
        self._sound: dict[int, Any] = {}
        self._origin = (source.start_time or 0) / av.time_base
        for sound in source.streams.audio[:1]:
            codec = sound.codec_context.name
            if codec in COPIED_AUDIO:
                self.read.append(sound)
                self._sound[sound.index] = self._container.add_stream_from_template(sound)
            else:
                log.warning("The sound (%s) is left out: an MP4 file cannot hold it as it is.", codec)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def write(self, pixels: NDArray[np.uint8], seconds: float) -> None:
        """Add a frame that is shown from `seconds` on."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.time_base, frame.pts = self._clock, round(seconds / self._clock)
        self._container.mux(self._video.encode(frame))

    def copy(self, packet: Packet[Stream], start: float) -> None:
        """Add a piece of sound as it is, earlier by `start` seconds."""
        if packet.time_base is None or packet.pts is None or packet.dts is None:
            return
        shift = round((start + self._origin) / packet.time_base)
        if packet.pts < shift:
            return
        packet.stream, packet.pts, packet.dts = self._sound[packet.stream.index], packet.pts - shift, packet.dts - shift
        self._container.mux(packet)

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._video.encode(None))
