"""Videos of `predict`: an overlay video and the classes of every second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from cascade_clip.errors import UserError
from cascade_clip.inference import segmentation, video
from cascade_clip.report import overlay, palette
from cascade_clip_cli.predict_images import Outcome, PredictionJob
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import swatch, write_json

LARGEST_SHOWN = 4


class VideoOptions(NamedTuple):
    """Which frames of videos are segmented."""

    every: int = 1
    """Every so many frames are segmented; those between keep the labels of the last one."""
    start: float = 0.0
    """Second to start at."""
    end: float | None = None
    """Second to end before."""


def check_video_options(options: VideoOptions, paths: Sequence[Path], *, explain: bool) -> None:
    """Make sure that the options fit what was given, before the model is loaded.

    Raises:
        UserError: Options of videos without a video, of images with one, an empty range, no PyAV, or a single file that
            is no video after all.
    """
    videos = [path for path in paths if video.is_video(path)]
    if not videos:
        if options != VideoOptions():
            raise UserError(f"--every, --start and --end are for videos, but {paths[0]} is none.")
        return
    if options.end is not None and options.end <= options.start:
        raise UserError(f"--end {options.end:g} is not after --start {options.start:g}: nothing would be left.")
    if explain:
        raise UserError(f"--explain draws pictures of images, but {videos[0]} is a video: give it a frame as an image.")
    video.require_pyav()
    if len(paths) == 1:
        video.video_facts(videos[0])


def segmented_video(job: PredictionJob, source: Path, stem: str, options: VideoOptions) -> Outcome:
    """Segment a video and write STEM.overlay.mp4 and STEM.json.

    Args:
        job: The model, what is looked for, and where to write.
        source: The video.
        stem: Of the output files.
        options: Which frames.

    Raises:
        UserError: The video cannot be read, or the output cannot be written; then neither file is left.
    """
    names = job.vocabulary.names
    facts, colours = video.video_facts(source), palette.class_colours(names, job.known)
    labels = segmentation.FrameLabels(job.segment, options.every)
    painter = overlay.VideoOverlay(colours)
    target, record_file = job.output / f"{stem}.overlay.mp4", job.output / f"{stem}.json"
    record: dict[str, Any] = {}

    def write_record(frames: int) -> None:
        record.update(
            video=str(source),
            width=facts.width,
            height=facts.height,
            frame_rate=float(facts.rate),
            frames=frames,
            segmented_frames=labels.segmented,
            **_shares(labels, names, colours),
            names=list(names),
        )
        write_json(record_file, record)

    with progress_bar("frames") as progress:
        video.rewrite_video(
            source,
            target,
            lambda frame, seconds: painter.paint(frame, labels(frame, seconds), seconds),
            start=options.start,
            end=options.end,
            progress=progress,
            finish=write_record,
        )
    files = {"overlay": str(target), "record": str(record_file)}
    shown = {key: value for key, value in record.items() if key != "names"}
    return Outcome({**shown, "files": files}, _line(source, labels, names, colours))


def _shares(
    labels: segmentation.FrameLabels, names: Sequence[str], colours: Sequence[palette.Colour]
) -> dict[str, Any]:
    """What the JSON says of classes: over the whole video with index and colour, and by second from the largest on."""

    def by_size(shares: Any) -> list[int]:
        return sorted((i for i, share in enumerate(shares) if share > 0), key=lambda i: (-shares[i], i))

    means = labels.mean_shares()
    classes = [
        {
            "class": names[i],
            "index": i,
            "colour": "#{:02x}{:02x}{:02x}".format(*colours[i]),
            "share": float(means[i]),
        }
        for i in by_size(means)
    ]
    seconds = [
        {
            "second": entry.second,
            "segmented_frames": entry.frames,
            "classes": [{"class": names[i], "share": float(entry.shares[i])} for i in by_size(entry.shares)],
        }
        for entry in labels.seconds()
    ]
    return {"classes": classes, "seconds": seconds}


def _line(
    source: Path, labels: segmentation.FrameLabels, names: Sequence[str], colours: Sequence[palette.Colour]
) -> Text:
    means = labels.mean_shares()
    line = Text(f"{source}: {labels.segmented} frames segmented: ")
    largest = sorted((i for i in range(len(means)) if means[i] > 0), key=lambda i: -means[i])
    for i in largest[:LARGEST_SHOWN]:
        line.append_text(swatch(colours[i])).append(f" {names[i]} {100 * means[i]:.0f} %  ")
    if len(largest) > LARGEST_SHOWN:
        line.append(f"+ {len(largest) - LARGEST_SHOWN} more", style="dim")
    line.rstrip()
    return line
