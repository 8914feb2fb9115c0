"""The command `prepare-data`: one command a source, which becomes a prepared dataset."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from cascade_clip.data import catalogue, dataset_info
from cascade_clip.errors import UserError, closest
from cascade_clip.preparation import prepare_coco as preparation_prepare_coco
from cascade_clip.preparation import prepare_context as preparation_prepare_context
from cascade_clip.preparation import prepare_folder as preparation_prepare_folder
from cascade_clip.preparation import prepare_hub as preparation_prepare_hub
from cascade_clip.preparation import prepare_voc as preparation_prepare_voc
from cascade_clip.preparation import source_files
from cascade_clip.shapes import prepare as shapes_prepare
from cascade_clip_cli import prepare_options as options
from cascade_clip_cli.prepare_steps import Output, official_source, with_shared_options

BENCHMARKS: dict[str, tuple[Callable[..., dataset_info.DatasetInfo], dict[str, Any]]] = {
    "coco": (preparation_prepare_coco.prepare_coco, {}),
    "voc": (preparation_prepare_voc.prepare_voc, {"sbd": options.Sbd}),
    "context": (
        preparation_prepare_context.prepare_context,
        {"annotations": options.Annotations, "class_order": options.ClassOrder},
    ),
}
"""Function that prepares a benchmark, and its options beside those of all benchmarks."""


class _Sources(TyperGroup):
    """Says clearly what is wrong with the word that should name a source, or with an option of another source."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if not ctx.resilient_parsing and first not in ctx.help_option_names:
            known = ", ".join(self.commands)
            if not first or first.startswith("-"):
                raise UserError(f"Say first what to prepare: cascade-clip prepare-data NAME, which is one of {known}.")
            if first not in self.commands:
                raise UserError(f'There is no dataset "{first}" to prepare.{closest(first, self.commands)}')
            self._refuse_options_of_others(first, [word.partition("=")[0] for word in args if word.startswith("--")])
        return super().parse_args(ctx, args)

    def _refuse_options_of_others(self, name: str, given: list[str]) -> None:
        for option in given:
            having = [source for source, command in self.commands.items() if _has(command, option)]
            if having and name not in having:
                verb = "have" if having[1:] else "has"
                raise UserError(f"prepare-data {name} has no {option}; only {', '.join(having)} {verb} it.")


def _has(command: Any, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


app = typer.Typer(
    cls=_Sources,
    subcommand_metavar="NAME [OPTIONS]",
    help="Turn official files, images and masks of your own, or a dataset of the Hub, into a prepared dataset. A run "
    "that was interrupted continues when the same command is given again.\n\n"
    "Example: cascade-clip prepare-data folder --source my-data --output prepared/mine",
)


def _benchmark(name: str, prepare: Callable[..., dataset_info.DatasetInfo]) -> Callable[..., dataset_info.DatasetInfo]:
    """The function behind the command of a benchmark."""

    def command(
        output: Output,
        *,
        source: options.OfficialSource = None,
        download: options.Download = False,
        yes: options.Yes = False,
        mirror: options.Mirror = None,
        subset: options.Subset = None,
        **own: Any,
    ) -> dataset_info.DatasetInfo:
        files = official_source(name, source, download=download, mirror=mirror, agreed=yes)
        plain = {key: value.value if isinstance(value, Enum) else value for key, value in own.items()}
        with output.writing(f"Preparing {catalogue.benchmark(name).title}") as shared:
            return prepare(source=files, subset=subset, name=output.name, **plain, **shared)

    return command


def _folder(
    output: Output,
    *,
    source: options.FolderSource = None,
    images: options.Images = None,
    masks: options.Masks = None,
    classes: options.Classes = None,
    classes_file: options.ClassesFile = None,
    colours: options.Colours = None,
    ignore: options.Ignore = None,
    first_index: options.FirstIndex = 0,
    train_list: options.TrainList = None,
    val_list: options.ValList = None,
    val_fraction: options.ValFraction = 0.2,
    seed: options.DrawSeed = 0,
) -> dataset_info.DatasetInfo:
    """The function behind `folder`."""
    place = source.expanduser() if source is not None else None
    table = source_files.read_colours(colours) if colours else None
    names = _given_classes(classes, classes_file)
    if names is None and table is not None and not (place and (place / "classes.txt").is_file()):
        names = list(table)
    if names is None:
        names = source_files.read_lines(_inside(place, None, "classes.txt", "class names"), "list of classes")
    with output.writing("Preparing images") as shared:
        return preparation_prepare_folder.prepare_folder(
            name=output.name,
            images=_inside(place, images, "images", "images"),
            masks=_inside(place, masks, "masks", "masks"),
            classes=names,
            colours=table,
            ignore=tuple(ignore or ()),
            first_index=first_index,
            train_list=train_list,
            val_list=val_list,
            val_fraction=val_fraction,
            seed=seed,
            **shared,
        )


def _inside(source: Path | None, given: Path | None, name: str, what: str) -> Path:
    """A path that was given, else the one of this name in the source folder."""
    if given is not None:
        return given
    if source is None:
        option = "classes-file" if name == "classes.txt" else name
        raise UserError(f"Say where the {what} are: --source FOLDER with {name} in it, or --{option}.")
    return source / name


def _given_classes(classes: str | None, classes_file: Path | None) -> list[str] | None:
    """Class names from --classes or --classes-file; None: neither was given."""
    if classes is not None and classes_file is not None:
        raise UserError("Give the class names with --classes or with --classes-file, not with both.")
    if classes is not None:
        return [name.strip() for name in classes.split(",")]
    return source_files.read_lines(classes_file, "list of classes") if classes_file is not None else None


def _hub(
    output: Output,
    *,
    source: options.HubSource = None,
    stream: options.Stream = False,
    revision: options.Revision = None,
    config: options.Config = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    train_split: options.TrainSplit = "train",
    val_split: options.ValSplit = None,
    val_fraction: options.ValFraction = 0.2,
    seed: options.DrawSeed = 0,
    classes: options.Classes = None,
    classes_file: options.ClassesFile = None,
    ignore: options.Ignore = None,
    first_index: options.FirstIndex = 0,
    subset: options.Subset = None,
) -> dataset_info.DatasetInfo:
    """The function behind `hub`."""
    if source is None:
        raise UserError(
            "Say what to prepare: --source ORG/NAME on the Hub, or a folder in imagefolder or Parquet form."
        )
    with output.writing("Preparing images") as shared:
        return preparation_prepare_hub.prepare_hub(
            source=source,
            name=output.name,
            stream=stream,
            revision=revision,
            config=config,
            image_column=image_column,
            label_column=label_column,
            train_split=train_split,
            val_split=val_split,
            val_fraction=val_fraction,
            seed=seed,
            classes=_given_classes(classes, classes_file),
            ignore=tuple(ignore or ()),
            first_index=first_index,
            subset=subset,
            **shared,
        )


def _shapes(*, stuff: bool) -> Callable[..., dataset_info.DatasetInfo]:
    """The function behind `shapes` and `shapes-things`."""

    def command(
        output: Output,
        *,
        train: options.TrainScenes = 2000,
        val: options.ValScenes = 300,
        seed: options.ScenesSeed = 0,
    ) -> dataset_info.DatasetInfo:
        with output.writing("Drawing scenes") as shared:
            shapes_prepare.prepare_shapes(train=train, val=val, seed=seed, stuff=stuff, **shared)
        return dataset_info.read_dataset_info(output.folder)

    return command


def _benchmark_help(name: str) -> str:
    facts, classes = catalogue.benchmark(name), catalogue.get_split(name).classes
    return f"{facts.title}: {len(classes)} classes, {facts.counts['train']:,} + {facts.counts['val']:,} images."


def _add(name: str, prepare: Callable[..., dataset_info.DatasetInfo], text: str, example: str, **own: Any) -> None:
    """Register a command; `own` are options that the signature of `prepare` does not show."""
    help_text = f"{text}\n\nExample: cascade-clip prepare-data {name} {example}"
    app.command(name, help=help_text)(with_shared_options(name, prepare, own))


for _name, (_prepare, _options) in BENCHMARKS.items():
    _add(_name, _benchmark(_name, _prepare), _benchmark_help(_name), f"--source official/{_name}", **_options)
_add("folder", _folder, "Images and masks of your own, in two folders.", "--source my-data --output prepared/mine")
_add("hub", _hub, "A dataset of the Hugging Face Hub, or a folder in imagefolder or Parquet form.", "--source ORG/NAME")
_add("shapes", _shapes(stuff=True), "Scenes of drawn things and stuff, made in seconds.", "--train 500")
_add("shapes-things", _shapes(stuff=False), "The same scenes, only their things labelled.", "--train 500")
