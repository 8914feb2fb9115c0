"""Videos of `predict`: an overlay video and the classes of every second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cascade_clip.drawing import palette
from cascade_clip.errors import UserError, counted
from cascade_clip.files import delete, replace_files, waiting_place, write_files
from cascade_clip.inference import frame_labels, prediction_files, sources, video
from cascade_clip.inference import segmentation as segmentations
from cascade_clip.report import video_overlay
from cascade_clip_cli.checked_options import finite
from cascade_clip_cli.console import stderr
from cascade_clip_cli.predict_images import Outcome, PredictionJob
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import largest_classes, write_json


@dataclass(frozen=True)
class VideoOptions:
    """Which frames of videos are segmented; those between keep the labels of the last one."""

    every: Annotated[int, typer.Option("--every", min=1, help="Videos: segment every Nth frame.")] = 1
    start: Annotated[float, typer.Option("--start", min=0.0, callback=finite, help="Videos: second to start at.")] = 0.0
    end: Annotated[
        float | None, typer.Option("--end", min=0.0, callback=finite, help="Videos: second to stop before.")
    ] = None


def check_video_options(options: VideoOptions, given: Sequence[sources.Source], of_images: Sequence[str]) -> None:
    """Make sure that the options fit what was given, before the model is loaded.

    `of_images` are the options that were given and are of images only; beside images, videos are done without them.
    Raises UserError: options of videos without a video, of images with nothing but videos, an empty range, no PyAV, or
    a single file that is no video after all.
    """
    videos = [source for source in given if sources.is_video(source.path)]
    if not videos:
        if options != VideoOptions():
            raise UserError(f"--every, --start and --end are for videos, but {given[0].name} is none.")
        return
    if options.end is not None and options.end <= options.start:
        raise UserError(f"--end {options.end:g} is not after --start {options.start:g}: nothing would be left.")
    only_videos = len(videos) == len(given)
    if of_images and only_videos:
        raise UserError(
            f"{of_images[0]} is for images, but {videos[0].name} is a video: give it frames as images, or leave it out."
        )
    if of_images:
        stderr.print(f"Videos are done without {' and '.join(of_images)}, which are for images.", soft_wrap=True)
    if only_videos:
        video.require_pyav()
    if len(given) == 1 and videos[0].address is None:
        video.video_facts(videos[0].path)


def segmented_video(job: PredictionJob, source: sources.Source, stem: str, options: VideoOptions) -> Outcome:
    """Segment a video and write STEM.overlay.mp4, STEM.json and, where asked for, a label map of each segmented frame.

    Raises:
        UserError: The video cannot be read, or the output cannot be written; then neither file is left.
    """
    names, colours = job.vocabulary.names, job.vocabulary.colours
    facts = video.video_facts(source.path)
    target, record_file, labels_folder = (
        job.output / f"{stem}{ending}"
        for ending in (prediction_files.VIDEO_OVERLAY, prediction_files.RECORD, prediction_files.VIDEO_LABELS)
    )
    record: dict[str, Any] = {}
    painter, waiting = video_overlay.VideoOverlay(colours), waiting_place(labels_folder)

    def write_labels(number: int, segmentation: segmentations.Segmentation) -> None:
        write_files({waiting / f"{number:06d}.png": segmentation.labels_png(grey=job.labels == "grey")})

    labels = frame_labels.FrameLabels(job.segment, options.every, write_labels if job.labels else None)

    def write_record(frames: int) -> None:
        record.update(
            video=source.name,
            width=facts.width,
            height=facts.height,
            frame_rate=float(facts.rate),
            frames=frames,
            segmented_frames=labels.segmented,
            **_shares(labels, names, colours),
            names=list(names),
        )
        write_json(record_file, record)
        replace_files(labels_folder, waiting, "[0-9]*.png")

    try:
        with progress_bar("frames") as progress:
            video.rewrite_video(
                source.path,
                target,
                lambda frame, seconds: painter.paint(frame, labels(frame, seconds), seconds),
                start=options.start,
                end=options.end,
                progress=progress,
                finish=write_record,
            )
    finally:
        delete(waiting)
    written = {"overlay": str(target), "record": str(record_file)}
    written |= {"labels": str(labels_folder)} if job.labels is not None else {}
    shown = {key: value for key, value in record.items() if key != "names"}
    found = [(entry["index"], entry["share"], "") for entry in record["classes"]]
    start = f"{source.name}: {counted(labels.segmented, 'frame')} segmented: "
    return Outcome({**shown, "files": written}, largest_classes(start, found, names, colours))


def _shares(
    labels: frame_labels.FrameLabels, names: Sequence[str], colours: Sequence[palette.Colour]
) -> dict[str, Any]:
    """What the JSON says of classes: over the whole video with index and colour, and by second from the largest on."""

    def by_size(shares: Any) -> list[int]:
        return sorted((i for i, share in enumerate(shares) if share > 0), key=lambda i: (-shares[i], i))

    means = labels.mean_shares()
    classes = [
        {"class": names[i], "index": i, "colour": palette.hex_colour(colours[i]), "share": float(means[i])}
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
