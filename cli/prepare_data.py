"""The command `prepare-data`: one command a source, which becomes a prepared dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from cascade_clip.config import class_names
from cascade_clip.data import catalogue
from cascade_clip.errors import UserError, closest
from cascade_clip.preparation import prepare_annotations, prepare_dataset, prepare_folder, prepare_hub, source_files
from cascade_clip.shapes import prepare as shapes_prepare
from cascade_clip_cli import prepare_options as options
from cascade_clip_cli.options import JsonOption, OutputOption, QuietOption
from cascade_clip_cli.prepare_steps import Shared, Target, official_source


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
            having = [
                source
                for source, command in self.commands.items()
                if any(option in parameter.opts for parameter in command.params)
            ]
            if having and name not in having:
                verb = "have" if having[1:] else "has"
                raise UserError(f"prepare-data {name} has no {option}; only {', '.join(having)} {verb} it.")


app = typer.Typer(
    cls=_Sources,
    subcommand_metavar="NAME [OPTIONS]",
    help="Turn official files, images and masks of your own, or a dataset of the Hub, into a prepared dataset. A run "
    "that was interrupted continues when the same command is given again.\n\n"
    "Example: cascade-clip prepare-data folder --source my-data --output prepared/mine",
)


def _help(text: str, name: str, example: str) -> str:
    return f"{text}\n\nExample: cascade-clip prepare-data {name} {example}"


def _benchmark_help(name: str) -> str:
    facts, classes = catalogue.benchmark(name), catalogue.get_split(name).classes
    counts = f"{len(classes)} classes, {facts.counts['train']:,} + {facts.counts['val']:,} images"
    return _help(f"{facts.title}: {counts}.", name, f"--source official/{facts.files_of or name}")


def _prepare(benchmark: str, target: Target, source: Path, **own: Any) -> None:
    """Prepare a benchmark; `own` are the options of its preparation."""
    with target.writing(f"Preparing {catalogue.benchmark(benchmark).title}") as arguments:
        prepare_dataset.prepare(benchmark, source, name=target.name, **own, **arguments)


def _add_benchmark(benchmark: str) -> None:
    """Add the command of a benchmark that has no options of its own."""

    @app.command(benchmark, help=_benchmark_help(benchmark))
    def _command(
        *,
        source: options.OfficialSource = None,
        download: options.Download = False,
        yes: options.Yes = False,
        mirror: options.Mirror = None,
        subset: options.Subset = None,
        output: OutputOption = None,
        name: options.Name = None,
        workers: options.Workers = None,
        overwrite: options.Overwrite = False,
        push_to_hub: options.Push = None,
        private: options.Private = False,
        rights_checked: options.Rights = False,
        json_file: JsonOption = None,
        quiet: QuietOption = False,
    ) -> None:
        shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
        target = shared.check(benchmark, source)
        files = official_source(benchmark, source, download=download, mirror=mirror, agreed=yes)
        _prepare(benchmark, target, files, subset=subset)


def _add_voc(benchmark: str) -> None:
    """Add a command that prepares VOC 2012."""

    @app.command(benchmark, help=_benchmark_help(benchmark))
    def _command(
        *,
        source: options.OfficialSource = None,
        download: options.Download = False,
        yes: options.Yes = False,
        mirror: options.Mirror = None,
        subset: options.Subset = None,
        sbd: options.Sbd = None,
        output: OutputOption = None,
        name: options.Name = None,
        workers: options.Workers = None,
        overwrite: options.Overwrite = False,
        push_to_hub: options.Push = None,
        private: options.Private = False,
        rights_checked: options.Rights = False,
        json_file: JsonOption = None,
        quiet: QuietOption = False,
    ) -> None:
        shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
        target = shared.check(benchmark, source)
        files = official_source(benchmark, source, download=download, mirror=mirror, agreed=yes)
        _prepare(benchmark, target, files, subset=subset, sbd=sbd)


def _add_context(benchmark: str) -> None:
    """Add a command that prepares PASCAL Context."""

    @app.command(benchmark, help=_benchmark_help(benchmark))
    def _command(
        *,
        source: options.OfficialSource = None,
        download: options.Download = False,
        yes: options.Yes = False,
        mirror: options.Mirror = None,
        subset: options.Subset = None,
        annotations: options.Annotations = None,
        class_order: options.ClassOrder = None,
        output: OutputOption = None,
        name: options.Name = None,
        workers: options.Workers = None,
        overwrite: options.Overwrite = False,
        push_to_hub: options.Push = None,
        private: options.Private = False,
        rights_checked: options.Rights = False,
        json_file: JsonOption = None,
        quiet: QuietOption = False,
    ) -> None:
        shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
        target = shared.check(benchmark, source)
        files = official_source(benchmark, source, download=download, mirror=mirror, agreed=yes)
        _prepare(benchmark, target, files, subset=subset, annotations=annotations, class_order=class_order)


_add_benchmark("coco")
_add_voc("voc")
_add_context("context")
_add_benchmark("coco-object")
_add_voc("voc-background")
_add_context("context-background")
_add_benchmark("ade20k")
_add_benchmark("cityscapes")


@app.command(
    "folder",
    help=_help("Images and masks of your own, in two folders.", "folder", "--source my-data --output prepared/mine"),
)
def _folder(
    *,
    source: options.FolderSource = None,
    images: options.Images = None,
    masks: options.Masks = None,
    classes: options.Classes = None,
    classes_file: options.ClassesFile = None,
    colours: options.Colours = None,
    ignore: options.Ignore = None,
    first_index: options.FirstIndex = 0,
    mask_values: options.MaskValues = None,
    train_list: options.TrainList = None,
    val_list: options.ValList = None,
    val_fraction: options.ValFraction = 0.2,
    seed: options.DrawSeed = 0,
    output: OutputOption = None,
    name: options.Name = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    push_to_hub: options.Push = None,
    private: options.Private = False,
    rights_checked: options.Rights = False,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
    target = shared.check("folder", source)
    place = source.expanduser() if source is not None else None
    table = source_files.read_colours(colours) if colours else None
    names = _given_classes(classes, classes_file)
    if names is None and table is not None and not (place and (place / "classes.txt").is_file()):
        names = list(table)
    if names is None:
        names = source_files.read_lines(_inside(place, None, "classes.txt", "class names"), "list of classes")
    with target.writing("Preparing images") as arguments:
        prepare_folder.prepare_folder(
            name=target.name,
            images=_inside(place, images, "images", "images"),
            masks=_inside(place, masks, "masks", "masks"),
            classes=names,
            colours=table,
            ignore=tuple(ignore or ()),
            first_index=first_index,
            mask_values=_given_values(mask_values),
            train_list=train_list,
            val_list=val_list,
            val_fraction=val_fraction,
            seed=seed,
            **arguments,
        )


@app.command(
    "annotations",
    help=_help(
        "Images labelled in COCO JSON, YOLO polygons, CVAT or Label Studio.",
        "annotations",
        "--source instances.json --images photos",
    ),
)
def _annotations(
    *,
    source: options.AnnotationSource = None,
    images: options.AnnotatedImages = None,
    classes: options.Classes = None,
    classes_file: options.ClassesFile = None,
    background: options.Background = None,
    train_list: options.TrainList = None,
    val_list: options.ValList = None,
    val_fraction: options.ValFraction = 0.2,
    seed: options.DrawSeed = 0,
    output: OutputOption = None,
    name: options.Name = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    push_to_hub: options.Push = None,
    private: options.Private = False,
    rights_checked: options.Rights = False,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
    target = shared.check("annotations", source)
    if source is None:
        raise UserError("Say where the annotations are: --source FILE.json, or the folder that the tool exported.")
    with target.writing("Preparing images") as arguments:
        prepare_annotations.prepare_annotations(
            source=source.expanduser(),
            name=target.name,
            images=images,
            classes=_given_classes(classes, classes_file),
            background=background,
            train_list=train_list,
            val_list=val_list,
            val_fraction=val_fraction,
            seed=seed,
            **arguments,
        )


def _inside(source: Path | None, given: Path | None, name: str, what: str) -> Path:
    """A path that was given, else the one of this name in the source folder."""
    if given is not None:
        return given
    if source is None:
        option = "classes-file" if name == "classes.txt" else name
        raise UserError(f"Say where the {what} are: --source FOLDER with {name} in it, or --{option}.")
    if not source.is_dir():
        raise UserError(f'There is no folder "{source}" for --source.')
    return source / name


def _given_values(mask_values: str | None) -> list[int] | None:
    """Numbers from --mask-values; None: not given."""
    if mask_values is None:
        return None
    given = [value.strip() for value in mask_values.split(",")]
    if not all(value.isdecimal() and value.isascii() for value in given):
        raise UserError(
            f'--mask-values takes numbers of 0 to 255, one for each class, as in 0,255; got "{mask_values}".'
        )
    return [int(value) for value in given]


def _given_classes(classes: str | None, classes_file: Path | None) -> list[str] | None:
    """Class names from --classes or --classes-file; None: neither was given."""
    if classes is not None and classes_file is not None:
        raise UserError("Give the class names with --classes or with --classes-file, not with both.")
    if classes is not None:
        return class_names.listed_names(classes, "--classes")
    return class_names.read_class_names(classes_file) if classes_file is not None else None


@app.command(
    "hub",
    help=_help(
        "A dataset of the Hugging Face Hub, or a folder in imagefolder or Parquet form.", "hub", "--source ORG/NAME"
    ),
)
def _hub(
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
    mask_values: options.MaskValues = None,
    subset: options.Subset = None,
    output: OutputOption = None,
    name: options.Name = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    push_to_hub: options.Push = None,
    private: options.Private = False,
    rights_checked: options.Rights = False,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
    target = shared.check("hub", source)
    if source is None:
        raise UserError(
            "Say what to prepare: --source ORG/NAME on the Hub, or a folder in imagefolder or Parquet form."
        )
    with target.writing("Preparing images") as arguments:
        prepare_hub.prepare_hub(
            source=source,
            name=target.name,
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
            mask_values=_given_values(mask_values),
            subset=subset,
            **arguments,
        )


@app.command("shapes", help=_help("Scenes of drawn things and stuff, made in seconds.", "shapes", "--train 500"))
def _shapes(
    *,
    train: options.TrainScenes = 2000,
    val: options.ValScenes = 300,
    seed: options.ScenesSeed = 0,
    output: OutputOption = None,
    name: options.Name = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    push_to_hub: options.Push = None,
    private: options.Private = False,
    rights_checked: options.Rights = False,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
    with shared.check("shapes").writing("Drawing scenes") as arguments:
        shapes_prepare.prepare_shapes(train=train, val=val, seed=seed, stuff=True, **arguments)


@app.command(
    "shapes-things", help=_help("The same scenes, only their things labelled.", "shapes-things", "--train 500")
)
def _shapes_things(
    *,
    train: options.TrainScenes = 2000,
    val: options.ValScenes = 300,
    seed: options.ScenesSeed = 0,
    output: OutputOption = None,
    name: options.Name = None,
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    push_to_hub: options.Push = None,
    private: options.Private = False,
    rights_checked: options.Rights = False,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    shared = Shared(output, name, workers, overwrite, push_to_hub, private, rights_checked, json_file, quiet)
    with shared.check("shapes-things").writing("Drawing scenes") as arguments:
        shapes_prepare.prepare_shapes(train=train, val=val, seed=seed, stuff=False, **arguments)
