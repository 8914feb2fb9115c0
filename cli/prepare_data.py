"""The command `prepare-data`: official files, own images or a dataset of the Hub become a prepared dataset."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from cascade_clip.errors import UserError, closest
from cascade_clip_cli.options import JsonOption, OutputOption, QuietOption
from cascade_clip_cli.prepare_options import (
    AnnotationsOption,
    ClassesFileOption,
    ClassesOption,
    ClassOrderOption,
    ColoursOption,
    ConfigOption,
    DatasetNameOption,
    DownloadOption,
    DrawSeedOption,
    FirstIndexOption,
    IgnoreOption,
    ImageColumnOption,
    ImagesOption,
    LabelColumnOption,
    MasksOption,
    MirrorOption,
    NameArgument,
    OverwriteOption,
    PrivateOption,
    PushOption,
    RevisionOption,
    RightsOption,
    SbdOption,
    SourceOption,
    StreamOption,
    SubsetOption,
    TrainListOption,
    TrainScenesOption,
    TrainSplitOption,
    ValFractionOption,
    ValListOption,
    ValScenesOption,
    ValSplitOption,
    WorkersOption,
    YesOption,
)

_OFFICIAL = ("coco", "voc", "context")
_SHAPES = ("shapes", "shapes-things")
_NAMES = (*_OFFICIAL, "folder", "hub", *_SHAPES)

# Options that not every kind of source has, and which have them.
_ONLY_FOR = {
    **dict.fromkeys(("download", "yes", "mirror"), _OFFICIAL),
    **dict.fromkeys(("sbd",), ("voc",)),
    **dict.fromkeys(("annotations", "class_order"), ("context",)),
    **dict.fromkeys(("images", "masks", "colours", "train_list", "val_list"), ("folder",)),
    **dict.fromkeys(("classes", "classes_file", "ignore", "first_index", "val_fraction"), ("folder", "hub")),
    **dict.fromkeys(("stream", "revision", "config", "image_column", "label_column"), ("hub",)),
    **dict.fromkeys(("train_split", "val_split"), ("hub",)),
    **dict.fromkeys(("train", "val"), _SHAPES),
    "subset": (*_OFFICIAL, "hub"),
    "seed": ("folder", "hub", *_SHAPES),
    "source": (*_OFFICIAL, "folder", "hub"),
}


def prepare_data(
    context: typer.Context,
    name: NameArgument,
    source: SourceOption = None,
    output: OutputOption = None,
    dataset_name: DatasetNameOption = None,
    subset: SubsetOption = None,
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    seed: DrawSeedOption = 0,
    push_to_hub: PushOption = None,
    private: PrivateOption = False,
    rights_checked: RightsOption = False,
    download: DownloadOption = False,
    yes: YesOption = False,
    mirror: MirrorOption = None,
    sbd: SbdOption = None,
    annotations: AnnotationsOption = None,
    class_order: ClassOrderOption = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    colours: ColoursOption = None,
    train_list: TrainListOption = None,
    val_list: ValListOption = None,
    classes: ClassesOption = None,
    classes_file: ClassesFileOption = None,
    ignore: IgnoreOption = None,
    first_index: FirstIndexOption = 0,
    val_fraction: ValFractionOption = 0.2,
    stream: StreamOption = False,
    revision: RevisionOption = None,
    config: ConfigOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    train_split: TrainSplitOption = "train",
    val_split: ValSplitOption = None,
    train: TrainScenesOption = 2000,
    val: ValScenesOption = 300,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Turn official files, images and masks of your own, or a dataset of the Hub, into a prepared dataset.

    A run that was interrupted continues when the same command is given again.

    Example: cascade-clip prepare-data folder --source my-data --output prepared/mine
    """
    from cascade_clip.files import data_folder
    from cascade_clip.preparation.prepared_writer import check_output
    from cascade_clip_cli import preparation
    from cascade_clip_cli.console import be_quiet, show_log
    from cascade_clip_cli.preparation_report import show_dataset

    if quiet:
        be_quiet()
    show_log()
    _refuse_foreign_options(context, name)
    final_name = dataset_name or _own_name(name, output, source)
    target = preparation.Target(
        final_name, output or data_folder() / final_name, workers or os.cpu_count() or 1, overwrite
    )
    check_output(target.output, overwrite=overwrite)
    _check_upload(name, push_to_hub, private=private, rights_checked=rights_checked)
    if name in _OFFICIAL:
        files = _official_files(name, source, download=download or mirror is not None, mirror=mirror, agreed=yes)
        if name == "coco":
            info = preparation.prepare_coco(target, files, subset)
        elif name == "voc":
            info = preparation.prepare_voc(target, files, subset, sbd)
        else:
            info = preparation.prepare_context(target, files, subset, annotations, class_order)
    elif name in _SHAPES:
        info = preparation.prepare_shapes(target, train, val, seed, stuff=name == "shapes")
    elif name == "hub":
        rows = preparation.HubSource(
            _hub_source(source), stream, revision, config, image_column, label_column, train_split, val_split
        )
        division = preparation.Division(None, None, val_fraction, seed)
        named = preparation.given_classes(classes, classes_file)
        info = preparation.prepare_hub(target, rows, division, named, tuple(ignore or ()), first_index, subset)
    else:
        place = Path(source).expanduser() if source is not None else None
        own = preparation.FolderFiles(place, images, masks, classes, classes_file, colours)
        division = preparation.Division(train_list, val_list, val_fraction, seed)
        info = preparation.prepare_folder(target, own, division, tuple(ignore or ()), first_index)
    show_dataset(target.output, info, json_file)
    if push_to_hub is not None:
        _push(target.output, push_to_hub, private=private, rights_checked=rights_checked)


def _own_name(name: str, output: Path | None, source: str | None) -> str:
    """The benchmark's name; for other sources that of the output folder, else of the source."""
    if name not in ("folder", "hub"):
        return name
    if output is not None:
        return output.absolute().name
    return Path(source).absolute().name.partition("@")[0] if source else name


def _refuse_foreign_options(context: typer.Context, name: str) -> None:
    """An option that this kind of source does not have would otherwise be passed over without a word."""
    if name not in _NAMES:
        raise UserError(f'There is no dataset "{name}" to prepare.{closest(name, _NAMES)}')
    for option, names in _ONLY_FOR.items():
        given = context.get_parameter_source(option)
        if name not in names and given is not None and given.name == "COMMANDLINE":
            raise UserError(
                f"prepare-data {name} has no --{option.replace('_', '-')}; only {', '.join(names)} "
                f"{'has' if len(names) == 1 else 'have'} it."
            )


def _official_files(name: str, source: str | None, *, download: bool, mirror: str | None, agreed: bool) -> Path:
    """Folder or archive with the official files, fetched where that is asked for."""
    from cascade_clip.files import data_folder
    from cascade_clip_cli.preparation import OFFICIAL_TITLES

    if source is None and not download:
        raise UserError(
            f"Say where {OFFICIAL_TITLES[name]} lies: --source FOLDER with the official files, packed or unpacked; or "
            "give --download to fetch them."
        )
    folder = Path(source).expanduser() if source is not None else data_folder() / "downloads" / name
    if download:
        from cascade_clip_cli.downloads import download as fetch

        if folder.is_file():
            raise UserError(f"--download puts files into a folder; {folder} is a file.")
        fetch(name, folder, mirror=mirror, agreed=agreed)
    return folder


def _hub_source(source: str | None) -> str:
    if source is None:
        raise UserError(
            "Say what to prepare: --source ORG/NAME on the Hub, or a folder in imagefolder or Parquet form."
        )
    return source


def _check_upload(name: str, repository: str | None, *, private: bool, rights_checked: bool) -> None:
    """Say before hours of work what would stop the upload after them."""
    if repository is None and (private or rights_checked):
        raise UserError("--private and --rights-checked belong to --push-to-hub ORG/NAME, which was not given.")
    if repository is not None and name in _OFFICIAL and not (private or rights_checked):
        raise UserError(
            f'The images of "{name}" belong to their photographers and may not be passed on: give --private with '
            "--push-to-hub, or --rights-checked where you hold the rights."
        )


def _push(folder: Path, repository: str, *, private: bool, rights_checked: bool) -> None:
    from cascade_clip.preparation.push import push_dataset
    from cascade_clip_cli.console import stderr

    with stderr.status(f"uploading to {repository}"):
        address = push_dataset(folder, repository, private=private, rights_checked=rights_checked)
    stderr.print(f"Uploaded to {address}", markup=False, highlight=False)
