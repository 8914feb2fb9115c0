"""Options of `prepare-data`, each written once; used as `options.Subset`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cascade_clip_cli.checked_options import as_path, finite, input_file, place
from cascade_clip_cli.options import LARGEST_SEED, MOST_PROCESSES, MOST_SCENES

# --- every source ---------------------------------------------------------------------------------------------------

Name = Annotated[str | None, typer.Option(help="Name of the dataset.")]
Workers = Annotated[int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Processes; default: one a processor.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the output folder.")]
Push = Annotated[str | None, typer.Option("--push-to-hub", metavar="ORG/NAME", help="Upload the result.")]
Private = Annotated[bool, typer.Option("--private", help="Upload to a repository that only you see.")]
Rights = Annotated[
    bool, typer.Option("--rights-checked", help="I may publish the benchmark's images: upload them openly.")
]

# --- several sources ------------------------------------------------------------------------------------------------

Subset = Annotated[int | None, typer.Option(min=1, help="Only N images of each part, to try things out.")]
Classes = Annotated[str | None, typer.Option(metavar="A,B,...", help="Class names in the order of the mask values.")]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        parser=as_path, callback=input_file, help="Class names, one a line; default: classes.txt in the source folder."
    ),
]
Ignore = Annotated[list[str] | None, typer.Option(help="Mask value, or #rrggbb, that means no class; repeatable.")]
FirstIndex = Annotated[int, typer.Option(help="Mask value of the first class.")]
MaskValues = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Mask value of each class, if they do not count up: 0,255.")
]
ValFraction = Annotated[
    float, typer.Option(min=0, max=0.99, callback=finite, help="Share for validation where the source does not say.")
]
DrawSeed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draw of validation images.")]

# --- benchmarks -----------------------------------------------------------------------------------------------------

OfficialSource = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", callback=place, help="Folder with the official files, packed or unpacked, or one archive."
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download what is missing into --source first.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to the terms without being asked.")]
Mirror = Annotated[str | None, typer.Option(metavar="URL", help="Download from this address instead.")]
Sbd = Annotated[
    Path | None,
    typer.Option(
        parser=as_path,
        callback=place,
        help="SBD additions, if not in --source: benchmark.tgz or SegmentationClassAug, folder or archive.",
    ),
]
Annotations = Annotated[
    Path | None, typer.Option(parser=as_path, callback=place, help="Labels, if not in --source: folder or file.")
]


ClassOrder = Annotated[
    Literal["alphabetical", "voc-first"] | None,
    typer.Option(help="Numbering of converted masks, where nothing tells; alphabetical is mmsegmentation's."),
]

# --- annotations ----------------------------------------------------------------------------------------------------

AnnotationSource = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", parser=as_path, callback=place, help="JSON of COCO or Label Studio; folder of YOLO or CVAT."
    ),
]
AnnotatedImages = Annotated[
    Path | None,
    typer.Option(parser=as_path, callback=place, help="Folder of the images; default: beside the annotations."),
]
Background = Annotated[
    str | None, typer.Option(metavar="NAME", help="A class for pixels in no region; default: they are ignored.")
]

# --- folder ---------------------------------------------------------------------------------------------------------

FolderSource = Annotated[
    Path | None,
    typer.Option(
        parser=as_path,
        callback=place,
        help="Folder with images, masks and classes.txt, unless they are given one by one.",
    ),
]
Images = Annotated[Path | None, typer.Option(parser=as_path, callback=place, help="Default: SOURCE/images.")]
Masks = Annotated[Path | None, typer.Option(parser=as_path, callback=place, help="Default: SOURCE/masks.")]
Colours = Annotated[
    Path | None,
    typer.Option(parser=as_path, callback=input_file, help="TOML or CSV: colour of each class in RGB masks."),
]
TrainList = Annotated[
    Path | None, typer.Option(parser=as_path, callback=input_file, help="File with the names of training images.")
]
ValList = Annotated[
    Path | None, typer.Option(parser=as_path, callback=input_file, help="File with the names of validation images.")
]

# --- hub ------------------------------------------------------------------------------------------------------------

HubSource = Annotated[
    str | None,
    typer.Option(
        metavar="ORG/NAME", callback=place, help="Dataset of the Hub, or a folder in imagefolder or Parquet form."
    ),
]
Stream = Annotated[bool, typer.Option("--stream", help="Keep nothing of the source on the disk.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit.")]
Config = Annotated[str | None, typer.Option(help="Configuration, where there are several.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column of images; default: found.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of masks; default: found.")]
TrainSplit = Annotated[str, typer.Option(help="Name of the training part.")]
ValSplit = Annotated[str | None, typer.Option(help="Name of the validation part; default: found.")]

# --- shapes ---------------------------------------------------------------------------------------------------------

TrainScenes = Annotated[int, typer.Option(min=1, max=MOST_SCENES, help="Scenes for training.")]
ValScenes = Annotated[int, typer.Option(min=1, max=MOST_SCENES, help="Scenes for validation.")]
ScenesSeed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the scenes.")]
