"""Options of `prepare-data`, by the kind of source they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FETCHED, _OFFICIAL, _FOLDER, _HUB = "Official files", "Only for context", "Only for folder", "Only for hub"
_OWN, _SHAPES, _VOC = "For folder and hub", "Only for shapes", "Only for voc"

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="coco, voc, context, folder (own images and masks), hub, shapes or shapes-things."
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="Folder with the official or own files, or one archive; ORG/NAME or a folder for hub."
    ),
]
DatasetNameOption = Annotated[str | None, typer.Option("--name", help="Name of the dataset.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the output folder.")]
DrawSeedOption = Annotated[
    int, typer.Option(min=0, help="Seed of the validation draw (folder, hub), of scenes (shapes).")
]
SubsetOption = Annotated[int | None, typer.Option(min=1, help="Only N images of each part, to try things out.")]
PushOption = Annotated[str | None, typer.Option("--push-to-hub", metavar="ORG/NAME", help="Upload the result.")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Upload to a repository that only you see.")]
RightsOption = Annotated[
    bool, typer.Option("--rights-checked", help="I may publish the benchmark's images: upload them openly.")
]

DownloadOption = Annotated[
    bool, typer.Option("--download", help="Fetch what is missing into --source first.", rich_help_panel=_FETCHED)
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Agree to the terms without being asked.", rich_help_panel=_FETCHED)
]
MirrorOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Fetch from this address instead.", rich_help_panel=_FETCHED)
]
SbdOption = Annotated[
    Path | None,
    typer.Option(
        help="SBD additions, if not in --source: benchmark.tgz or SegmentationClassAug, folder or archive.",
        rich_help_panel=_VOC,
    ),
]
AnnotationsOption = Annotated[
    Path | None, typer.Option(help="Labels, if not in --source: folder or file.", rich_help_panel=_OFFICIAL)
]
ClassOrderOption = Annotated[
    str | None,
    typer.Option(
        help="Numbering of converted masks, where nothing tells: alphabetical (mmsegmentation) or voc-first.",
        rich_help_panel=_OFFICIAL,
    ),
]

ImagesOption = Annotated[Path | None, typer.Option(help="Default: SOURCE/images.", rich_help_panel=_FOLDER)]
MasksOption = Annotated[Path | None, typer.Option(help="Default: SOURCE/masks.", rich_help_panel=_FOLDER)]
ColoursOption = Annotated[
    Path | None, typer.Option(help="TOML or CSV: the colour of each class in RGB masks.", rich_help_panel=_FOLDER)
]
TrainListOption = Annotated[
    Path | None, typer.Option(help="File with the names of training images.", rich_help_panel=_FOLDER)
]
ValListOption = Annotated[
    Path | None, typer.Option(help="File with the names of validation images.", rich_help_panel=_FOLDER)
]
ClassesOption = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Class names in the order of the masks.", rich_help_panel=_OWN)
]
ClassesFileOption = Annotated[
    Path | None, typer.Option(help="Class names, one a line; default: SOURCE/classes.txt.", rich_help_panel=_OWN)
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(help="Mask value, or #rrggbb, that means no class; repeatable.", rich_help_panel=_OWN),
]
FirstIndexOption = Annotated[int, typer.Option(help="Mask value of the first class.", rich_help_panel=_OWN)]
ValFractionOption = Annotated[
    float, typer.Option(min=0, max=0.99, help="Share for validation without lists.", rich_help_panel=_OWN)
]

StreamOption = Annotated[
    bool, typer.Option("--stream", help="Keep nothing of the source on the disk.", rich_help_panel=_HUB)
]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit.", rich_help_panel=_HUB)]
ConfigOption = Annotated[str | None, typer.Option(help="Configuration, where there are several.", rich_help_panel=_HUB)]
ImageColumnOption = Annotated[str | None, typer.Option(help="Column of images; default: found.", rich_help_panel=_HUB)]
LabelColumnOption = Annotated[str | None, typer.Option(help="Column of masks; default: found.", rich_help_panel=_HUB)]
TrainSplitOption = Annotated[str, typer.Option(help="Name of the training part.", rich_help_panel=_HUB)]
ValSplitOption = Annotated[
    str | None, typer.Option(help="Name of the validation part; default: found.", rich_help_panel=_HUB)
]

TrainScenesOption = Annotated[int, typer.Option(min=1, help="Scenes for training.", rich_help_panel=_SHAPES)]
ValScenesOption = Annotated[int, typer.Option(min=1, help="Scenes for validation.", rich_help_panel=_SHAPES)]
