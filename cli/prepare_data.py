"""The command `prepare-data`: official files or own images become a prepared dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade_clip.errors import UserError, closest
from cascade_clip_cli.options import JsonOption, OutputOption, QuietOption

if TYPE_CHECKING:
    from rich.table import Table

    from cascade_clip.data.class_list_file import Colour
    from cascade_clip.data.dataset_info import DatasetInfo

_NAMES = ("folder", "voc", "shapes")
_FOLDER, _VOC, _SHAPES = "Only for folder", "Only for voc", "Only for shapes"

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="folder (own images and masks), voc or shapes.")]
SourceOption = Annotated[Path | None, typer.Option(help="Folder with the files; shapes draws its own.")]
DatasetNameOption = Annotated[str | None, typer.Option("--name", help="Name of the dataset.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Processes; default: one a processor.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is in the output folder.")]
DrawSeedOption = Annotated[int, typer.Option(min=0, help="Seed of the validation draw (folder), of scenes (shapes).")]
ImagesOption = Annotated[Path | None, typer.Option(help="Default: SOURCE/images.", rich_help_panel=_FOLDER)]
MasksOption = Annotated[Path | None, typer.Option(help="Default: SOURCE/masks.", rich_help_panel=_FOLDER)]
ClassesOption = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Class names in the order of the masks.", rich_help_panel=_FOLDER)
]
ClassesFileOption = Annotated[
    Path | None, typer.Option(help="Class names, one a line; default: SOURCE/classes.txt.", rich_help_panel=_FOLDER)
]
ColoursOption = Annotated[
    Path | None, typer.Option(help="TOML or CSV: the colour of each class in RGB masks.", rich_help_panel=_FOLDER)
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(help="Mask value, or #rrggbb, that means no class; repeatable.", rich_help_panel=_FOLDER),
]
FirstIndexOption = Annotated[int, typer.Option(help="Mask value of the first class.", rich_help_panel=_FOLDER)]
TrainListOption = Annotated[
    Path | None, typer.Option(help="File with the names of training images.", rich_help_panel=_FOLDER)
]
ValListOption = Annotated[
    Path | None, typer.Option(help="File with the names of validation images.", rich_help_panel=_FOLDER)
]
ValFractionOption = Annotated[
    float, typer.Option(min=0, max=0.99, help="Share for validation without lists.", rich_help_panel=_FOLDER)
]
SbdOption = Annotated[Path | None, typer.Option(help="Folder of the SBD additions.", rich_help_panel=_VOC)]
SubsetOption = Annotated[int | None, typer.Option(min=1, help="Only N images of each part.", rich_help_panel=_VOC)]
TrainScenesOption = Annotated[int, typer.Option(min=1, help="Scenes for training.", rich_help_panel=_SHAPES)]
ValScenesOption = Annotated[int, typer.Option(min=1, help="Scenes for validation.", rich_help_panel=_SHAPES)]


def prepare_data(
    name: NameArgument,
    source: SourceOption = None,
    output: OutputOption = None,
    dataset_name: DatasetNameOption = None,
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    seed: DrawSeedOption = 0,
    images: ImagesOption = None,
    masks: MasksOption = None,
    classes: ClassesOption = None,
    classes_file: ClassesFileOption = None,
    colours: ColoursOption = None,
    ignore: IgnoreOption = None,
    first_index: FirstIndexOption = 0,
    train_list: TrainListOption = None,
    val_list: ValListOption = None,
    val_fraction: ValFractionOption = 0.2,
    sbd: SbdOption = None,
    subset: SubsetOption = None,
    train: TrainScenesOption = 2000,
    val: ValScenesOption = 300,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Turn official files, or images and masks of your own, into a prepared dataset.

    A run that was interrupted continues when the same command is given again.

    Example: cascade-clip prepare-data folder --source my-data --output prepared/mine
    """
    target = _target(name, dataset_name, output, workers, overwrite)
    if quiet:
        _be_quiet()
    if name == "shapes":
        info = _prepare_shapes(target, train, val, seed)
    elif name == "voc":
        info = _prepare_voc(target, source, sbd, subset)
    else:
        files = _FolderFiles(source, images, masks, classes, classes_file, colours)
        division = _Division(train_list, val_list, val_fraction, seed)
        info = _prepare_folder(target, files, division, tuple(ignore or ()), first_index)
    _show(target.output, info, json_file)


@dataclass(frozen=True)
class _Target:
    """What every kind of source has in common."""

    name: str
    output: Path
    workers: int
    overwrite: bool


@dataclass(frozen=True)
class _FolderFiles:
    """Where the files of `folder` lie, and the names of the classes."""

    source: Path | None
    images: Path | None
    masks: Path | None
    classes: str | None
    classes_file: Path | None
    colours: Path | None

    def inside(self, given: Path | None, name: str, what: str) -> Path:
        """A path that was given, else the one of this name in the source folder."""
        if given is not None:
            return given
        if self.source is None:
            option = "classes-file" if name == "classes.txt" else name
            raise UserError(f"Say where the {what} are: --source FOLDER with {name} in it, or --{option}.")
        return self.source / name


@dataclass(frozen=True)
class _Division:
    """Which images of `folder` are for training and which for validation."""

    train_list: Path | None
    val_list: Path | None
    val_fraction: float
    seed: int


def _target(name: str, dataset_name: str | None, output: Path | None, workers: int | None, overwrite: bool) -> _Target:
    from cascade_clip.data.dataset_location import dataset_home

    if name not in _NAMES:
        raise UserError(f'There is no dataset "{name}" to prepare.{closest(name, _NAMES)}')
    own_name = output.absolute().name if output and name == "folder" else name
    final_name = dataset_name or own_name
    return _Target(final_name, output or dataset_home() / final_name, workers or os.cpu_count() or 1, overwrite)


def _be_quiet() -> None:
    from cascade_clip_cli.console import be_quiet

    be_quiet()


def _prepare_shapes(target: _Target, train: int, val: int, seed: int) -> DatasetInfo:
    from cascade_clip.data.dataset_info import read_dataset_info
    from cascade_clip.shapes.prepare import prepare_shapes
    from cascade_clip_cli.console import progress_bar

    with progress_bar("Drawing scenes") as progress:
        prepare_shapes(
            target.output,
            train=train,
            val=val,
            seed=seed,
            workers=target.workers,
            overwrite=target.overwrite,
            progress=progress,
        )
    return read_dataset_info(target.output)


def _prepare_voc(target: _Target, source: Path | None, sbd: Path | None, subset: int | None) -> DatasetInfo:
    from cascade_clip.data.prepare_voc import prepare_voc
    from cascade_clip_cli.console import progress_bar

    if source is None:
        raise UserError("Say where VOC 2012 lies: --source FOLDER, the unpacked VOCdevkit.")
    with progress_bar("Preparing VOC 2012") as progress:
        return prepare_voc(
            target.output,
            source=source,
            sbd=sbd,
            subset=subset,
            name=target.name,
            workers=target.workers,
            overwrite=target.overwrite,
            progress=progress,
        )


def _prepare_folder(
    target: _Target, files: _FolderFiles, division: _Division, ignore: tuple[str, ...], first_index: int
) -> DatasetInfo:
    from cascade_clip.data.prepare_folder import prepare_folder
    from cascade_clip_cli.console import progress_bar

    classes, colours = _classes_and_colours(files)
    with progress_bar("Preparing images") as progress:
        return prepare_folder(
            target.output,
            name=target.name,
            images=files.inside(files.images, "images", "images"),
            masks=files.inside(files.masks, "masks", "masks"),
            classes=classes,
            colours=colours,
            ignore=ignore,
            first_index=first_index,
            train_list=division.train_list,
            val_list=division.val_list,
            val_fraction=division.val_fraction,
            seed=division.seed,
            workers=target.workers,
            overwrite=target.overwrite,
            progress=progress,
        )


def _classes_and_colours(files: _FolderFiles) -> tuple[list[str], dict[str, Colour] | None]:
    """Class names from --classes, a file, the colour table, or the source folder, in this order."""
    from cascade_clip.data.source_files import read_colours, read_lines

    if files.classes is not None and files.classes_file is not None:
        raise UserError("Give the class names with --classes or with --classes-file, not with both.")
    colours = read_colours(files.colours) if files.colours else None
    if files.classes is not None:
        return [name.strip() for name in files.classes.split(",")], colours
    default = files.source / "classes.txt" if files.source else None
    if colours is not None and files.classes_file is None and not (default and default.is_file()):
        return list(colours), colours
    path = files.inside(files.classes_file, "classes.txt", "class names")
    return read_lines(path, "list of classes"), colours


def _show(output: Path, info: DatasetInfo, json_file: Path | None) -> None:
    """Print counts, sizes and pixels of each class, or write the same as JSON where asked for."""
    from cascade_clip_cli.console import stdout
    from cascade_clip_cli.tables import write_json

    if json_file is not None:
        write_json(json_file, info.model_dump(mode="json"))
    if json_file == Path("-"):
        return
    stdout.print(_pixel_table(info))
    for part, content in info.parts.items():
        sizes = ""
        if content.smallest and content.largest:
            (low_h, low_w), (high_h, high_w) = content.smallest, content.largest
            sizes = f", {low_w} x {low_h} to {high_w} x {high_h} pixels"
        stdout.print(f"{part}: {content.images} images{sizes}")
    stdout.print(f"Written to {output}", markup=False)


def _pixel_table(info: DatasetInfo) -> Table:
    """Pixels and share of each class, a pair of columns a part."""
    from rich.table import Table
    from rich.text import Text

    table = Table("class", title=f"{info.name}: {len(info.classes)} classes", title_justify="left")
    rows = [[Text(name)] for name in (*info.classes, "ignored")]
    for part, content in info.parts.items():
        table.add_column(f"{part} pixels", justify="right")
        table.add_column("share", justify="right")
        pixels = (*content.pixels, content.ignored_pixels)
        whole = sum(pixels) or 1
        for row, count in zip(rows, pixels, strict=True):
            row += [Text(f"{count:,}"), Text(f"{count / whole:.1%}")]
    for row in rows:
        table.add_row(*row)
    return table
