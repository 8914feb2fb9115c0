"""Videos in and out, frame by frame, with PyAV (the extra `video`)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.resize import resize_bilinear
from cascade_clip.errors import UserError, raise_refusal
from cascade_clip.files import waiting_place
from cascade_clip.progress import Progress

try:
    import av
except ImportError:  # the extra `video` is not installed: `require_pyav` says so
    av = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

CUT_OFF = 0.9
"""A file that ends before this share of the length it claims was cut off."""
COPIED_AUDIO = frozenset({"aac", "ac3", "alac", "mp3", "opus"})
"""Sound that an MP4 file holds as it is; other sound is left out."""
WIDEST_PIXEL = Fraction(8)
"""A pixel's sides of a larger ratio are a mistake in the file, and taken for equal."""
QUALITY = {"libx264": {"crf": "20", "preset": "medium", "bf": "0"}, "mpeg4": {"q": "3"}}
"""With frames that refer to later ones (`bf`), FFmpeg writes too short a length where times are uneven."""

Painter = Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]
"""A frame (H, W, 3) uint8 RGB and its time in seconds -> the frame to write, of the same size."""


@dataclass(frozen=True)
class VideoFacts:
    """Size of a video as a player shows it, its mean frames a second, the second in which its pictures end (None: the
    file does not say), and its sound's codec (None: it has no sound)."""

    width: int
    height: int
    rate: Fraction
    seconds: float | None
    audio: str | None


def video_facts(source: Path) -> VideoFacts:
    """Open a video and decode its first frame; a `UserError` where PyAV is missing or the file cannot be read."""
    require_pyav()
    with _opened(source) as container:
        stream = _video_stream(container, source)
        frame, _ = next(_frames(container, [stream], source), (None, None))
        if frame is None:
            raise UserError(f"{source} holds no frame that can be read: it is broken or cut off.")
        height, width = _pixels(frame, _aspect(stream)).shape[:2]
        length = _length(container, stream)
        audio = next((sound.codec_context.name for sound in container.streams.audio), None)
        return VideoFacts(width, height, stream.average_rate or stream.base_rate or Fraction(25), length, audio)


def rewrite_video(
    source: Path,
    target: Path,
    paint: Painter,
    *,
    start: float = 0.0,
    end: float | None = None,
    progress: Progress | None = None,
    finish: Callable[[int], None] | None = None,
) -> int:
    """Write a video anew as MP4 with every frame painted over; one frame at a time is in memory.

    Size, frame times and sound stay as they are; sound that MP4 cannot hold is left out with a warning.

    Args:
        source: The video.
        target: The file to write or replace, whole or not at all; its folder is made where it does not exist.
        paint: Called for every frame in order.
        start: Second to start at.
        end: Second to end before; None: all of it.
        progress: Called after every frame with the frames done, an estimate of all, and the video's name.
        finish: Called with the number of frames right before the file takes its place.

    Returns how many frames were written. Raises UserError where PyAV is missing, the video is broken or has no frame in
    that range, or the target cannot be written.
    """
    facts = video_facts(source)
    last = min((value for value in (end, facts.seconds) if value is not None), default=start)
    expected = max(0, round((last - start) * facts.rate))
    waiting = waiting_place(target)
    new_folder = not waiting.parent.exists()
    written, reached = 0, 0.0
    try:
        with ExitStack() as stack:
            container = stack.enter_context(_opened(source))
            stream, size = _video_stream(container, source), (facts.width, facts.height)
            writer = stack.enter_context(VideoWriter(waiting, container, stream, size, facts.rate))
            for item, seconds in _frames(container, writer.read, source, start, end):
                if not isinstance(item, av.VideoFrame):
                    writer.copy(item, start)
                    continue
                writer.write(paint(_pixels(item, _aspect(stream), size), seconds), seconds - start)
                written, reached = written + 1, seconds
                if progress is not None:
                    progress(written, max(written, expected), source.name)
            if not written:
                length = "" if facts.seconds is None else f": its pictures end after {facts.seconds:.1f} seconds"
                until = "on" if end is None else f"to {end:g}"
                raise UserError(f"{source} has no frame from second {start:g} {until}{length}.")
            writer.finish()
        if finish is not None:
            finish(written)
        waiting.replace(target)
    except (av.error.FFmpegError, OSError) as error:
        raise_refusal(error, str(source))
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f'The video cannot be written to "{target}": {reason}. Choose another --output.') from error
    finally:
        with suppress(OSError):
            waiting.unlink()
        if new_folder:
            with suppress(OSError):  # it holds the video
                waiting.parent.rmdir()
    if facts.seconds and reached < CUT_OFF * min(facts.seconds, end or facts.seconds) - 1:
        log.warning("%s ends after %.1f of %.1f seconds: it was cut off.", source, reached, facts.seconds)
    return written


def require_pyav() -> None:
    """Raise a `UserError` where PyAV is not installed."""
    if av is None:
        raise UserError('Videos need PyAV: install it with pip install "cascade-clip[video]".')


def _opened(source: Path) -> av.container.InputContainer:
    if not source.is_file():
        raise UserError(f"There is no video {source}.")
    try:
        return av.open(str(source))
    except (av.error.FFmpegError, OSError) as error:
        raise_refusal(error, str(source))
        raise UserError(
            f"{source} cannot be read: it is broken, cut off or no video of a known kind ({error.strerror})."
        ) from error


def _frames(
    container: av.container.InputContainer,
    streams: list[av.stream.Stream],
    source: Path,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[tuple[Any, float]]:
    """Frames of the first stream and packets of the others in the order of the file, with their second.

    What lies outside of start..end is left out, as are packets without a time.
    """
    origin, seconds = _origin(container), start
    # Pictures that begin later than the sound would take it along to their beginning.
    begins = float((streams[0].start_time or 0) * (streams[0].time_base or 0)) - origin
    try:
        if start > begins:
            container.seek(round((start + origin) * av.time_base))
        for packet in container.demux(streams):
            sound = packet.stream.index != streams[0].index
            items: list[Any] = [packet] if sound else list(packet.decode())
            for item in items:
                shown_at = item.dts if item.pts is None else item.pts
                if shown_at is None or item.time_base is None:
                    continue
                seconds = float(shown_at * item.time_base) - origin
                if end is not None and seconds >= end:
                    if sound:
                        continue
                    return
                if seconds >= start - 1e-6:
                    yield item, max(seconds, start)
    except av.error.FFmpegError as error:
        raise UserError(f"{source} is broken after {seconds:.1f} seconds ({error.strerror}).") from error


def _video_stream(container: av.container.InputContainer, source: Path) -> av.VideoStream:
    """The video itself, where a file holds a cover picture too."""
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        raise UserError(f"{source} holds no pictures that can be read: it is no video, or it is broken or cut off.")
    return stream


def _origin(container: av.container.InputContainer) -> float:
    """Second of the file's clock at which a player begins."""
    return (container.start_time or 0) / av.time_base


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Seconds from the beginning of the file to the end of its pictures; None: the file does not say."""
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - _origin(container)
    # Matroska keeps the end of each stream, on the file's own clock, as a text.
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) - _origin(container)
    return container.duration / av.time_base if container.duration else None


def _aspect(stream: av.VideoStream) -> Fraction:
    """Width of a pixel in heights; one where the file says nothing, or nothing sensible."""
    given = Fraction(stream.sample_aspect_ratio or 1)
    return given if 1 / WIDEST_PIXEL <= given <= WIDEST_PIXEL else Fraction(1)


def _pixels(frame: av.VideoFrame, aspect: Fraction, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A frame as a player shows it, (H, W, 3) uint8 RGB: square pixels, upright, not mirrored.

    The shorter side of a pixel, of `aspect` width by height, is lengthened. `size` is width and height of the result,
    for a video whose frames change theirs; None: as this frame.
    """
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    height, width = pixels.shape[:2]
    if aspect != 1:
        pixels = resize_bilinear(pixels, round(height / min(aspect, 1)), round(width * max(aspect, 1)))
    turned = _turned(pixels, frame.side_data.get("DISPLAYMATRIX"))
    if size is not None and turned.shape[1::-1] != size:
        return resize_bilinear(turned, size[1], size[0])
    return turned


def _turned(pixels: NDArray[np.uint8], display_matrix: Any) -> NDArray[np.uint8]:
    """Turn and mirror pixels (H, W, 3) as FFmpeg's display matrix says: nine int32, by rows; None: it is the identity.

    The matrix takes a row (x, y, 1) of the picture, y downwards, to the place where it is shown.
    """
    if display_matrix is None:
        return pixels
    to_x, to_y = np.frombuffer(bytes(display_matrix), np.int32)[:6].reshape(2, 3)[:, :2].T.astype(np.int64)
    if abs(to_x[1]) + abs(to_y[0]) > abs(to_x[0]) + abs(to_y[1]):
        pixels, to_x, to_y = pixels.transpose(1, 0, 2), to_x[::-1], to_y[::-1]
    return pixels[:: -1 if to_y[1] < 0 else 1, :: -1 if to_x[0] < 0 else 1]


class VideoWriter:
    """An MP4 file while it is written."""

    def __init__(
        self,
        place: Path,
        source: av.container.InputContainer,
        video_in: av.VideoStream,
        size: tuple[int, int],
        rate: Fraction,
    ) -> None:
        """Begin the file `place` with frames of `size` (width, height), times of `video_in`, sound of `source`."""
        place.parent.mkdir(parents=True, exist_ok=True)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._container = cast(Any, av.open(str(place), "w", format="mp4"))
        self._video = self._container.add_stream(codec, rate=rate, options=QUALITY[codec])
        self._video.width, self._video.height = size
        # Half the colour resolution is what every player reads, but it needs even sides.
        self._video.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        self._clock: Fraction = video_in.time_base or 1 / rate
        self._video.codec_context.time_base = self._clock
        self._tick = -1
        self.read: list[av.stream.Stream] = [video_in]
        self._sound: dict[int, Any] = {}
        self._origin = _origin(source)
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
        """Add a frame that is shown from `seconds` on, in a damaged file at least a tick after the one before."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._tick = max(round(seconds / self._clock), self._tick + 1)
        frame.time_base, frame.pts = self._clock, self._tick
        self._container.mux(self._video.encode(frame))

    def copy(self, packet: av.Packet[av.stream.Stream], start: float) -> None:
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
