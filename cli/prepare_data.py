"""The command `prepare-data`: one command a source, which becomes a prepared dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cascade_clip.config import class_names as written_names
from cascade_clip.data import catalogue
from cascade_clip.errors import UserError, closest
from cascade_clip.preparation import prepare_annotations, prepare_dataset, prepare_folder, prepare_hub, source_files
from cascade_clip.shapes import prepare as shapes_prepare
from cascade_clip_cli import prepare_options as options
from cascade_clip_cli.checked_options import input_file, place
from cascade_clip_cli.options import with_groups
from cascade_clip_cli.prepare_steps import check, official_source, writing


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
    add_completion=False,
    cls=_Sources,
    subcommand_metavar="NAME [OPTIONS]",
    help="Turn official files, images and masks of your own, or a dataset of the Hub, into a prepared dataset. "
    "After an interruption the same command continues it.\n\n"
    "Example: cascade-clip prepare-data folder --source my-data --output prepared/mine",
)


def _add(name: str, text: str, example: str, command: Callable[..., None], **groups: type) -> None:
    text = f"{text}\n\nExample: cascade-clip prepare-data {name} {example}"
    app.command(name, help=text)(with_groups(command, **groups))


def _add_benchmark(name: str, kind: type[options.Own]) -> None:
    """Add the command of a benchmark, whose preparation takes these options."""
    facts, classes = catalogue.benchmark(name), catalogue.get_split(name).classes

    def command(*, official: options.Official, own: options.Own, shared: options.Shared) -> None:
        target = check(shared, name, official.source)
        source = official_source(name, official)
        with writing(target, f"Preparing {facts.title}") as arguments:
            prepare_dataset.prepare(name, source, **vars(own), **arguments)

    counts = f"{len(classes)} classes, {facts.counts['train']:,} + {facts.counts['val']:,} images"
    example = f"--source official/{facts.files_of or name}"
    _add(name, f"{facts.title}: {counts}.", example, command, own=kind)


def _folder(
    *,
    folders: options.Folders,
    class_names: options.ClassNames,
    colours: Annotated[
        Path | None, options.path_option("TOML or CSV: colour of each class in RGB masks.", input_file)
    ] = None,
    values: options.Values,
    lists: options.Lists,
    draw: options.Draw,
    shared: options.Shared,
) -> None:
    target = check(shared, "folder", folders.source)
    table = source_files.read_colours(colours) if colours else None
    names = class_names.read()
    source = folders.source.expanduser() if folders.source else None
    if names is None and table is not None and not (source and (source / "classes.txt").is_file()):
        names = list(table)
    if names is None:
        file = folders.inside(None, "classes.txt", "class names", "classes-file")
        names = written_names.read_class_names(file)
    with writing(target, "Preparing images") as arguments:
        prepare_folder.prepare_folder(
            images=folders.inside(folders.images, "images", "images"),
            masks=folders.inside(folders.masks, "masks", "masks"),
            classes=names,
            colours=table,
            **values.arguments(),
            **vars(lists),
            **vars(draw),
            **arguments,
        )


def _annotations(
    *,
    source: Annotated[
        Path | None, options.path_option("JSON of COCO or Label Studio; folder of YOLO or CVAT.", metavar="PATH")
    ] = None,
    images: Annotated[
        Path | None, options.path_option("Folder of the images; default: beside the annotations.")
    ] = None,
    class_names: options.ClassNames,
    background: Annotated[
        str | None, typer.Option(metavar="NAME", help="A class for pixels in no region; default: they are ignored.")
    ] = None,
    lists: options.Lists,
    draw: options.Draw,
    shared: options.Shared,
) -> None:
    target = check(shared, "annotations", source)
    if source is None:
        raise UserError("Say where the annotations are: --source FILE.json, or the folder that the tool exported.")
    with writing(target, "Preparing images") as arguments:
        prepare_annotations.prepare_annotations(
            source=source.expanduser(),
            images=images,
            classes=class_names.read(),
            background=background,
            **vars(lists),
            **vars(draw),
            **arguments,
        )


def _hub(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME", callback=place, help="Dataset of the Hub, or a folder in imagefolder or Parquet form."
        ),
    ] = None,
    rows: options.Rows,
    draw: options.Draw,
    class_names: options.ClassNames,
    values: options.Values,
    subset: options.Subset = None,
    shared: options.Shared,
) -> None:
    target = check(shared, "hub", source)
    if source is None:
        raise UserError(
            "Say what to prepare: --source ORG/NAME on the Hub, or a folder in imagefolder or Parquet form."
        )
    with writing(target, "Preparing images") as arguments:
        prepare_hub.prepare_hub(
            source=source,
            classes=class_names.read(),
            subset=subset,
            **vars(rows),
            **vars(draw),
            **values.arguments(),
            **arguments,
        )


def _add_shapes(name: str, text: str, *, stuff: bool) -> None:
    """Add a command that draws scenes."""

    def command(*, scenes: options.Scenes, shared: options.Shared) -> None:
        with writing(check(shared, name), "Drawing scenes") as arguments:
            del arguments["name"]  # --name names the folder
            shapes_prepare.prepare_shapes(stuff=stuff, **vars(scenes), **arguments)

    _add(name, text, "--train 500", command)


_add_benchmark("coco", options.Own)
_add_benchmark("voc", options.OwnOfVoc)
_add_benchmark("context", options.OwnOfContext)
_add_benchmark("coco-object", options.Own)
_add_benchmark("voc-background", options.OwnOfVoc)
_add_benchmark("context-background", options.OwnOfContext)
_add_benchmark("ade20k", options.Own)
_add_benchmark("cityscapes", options.Own)
_add("folder", "Images and masks of your own, in two folders.", "--source my-data --output prepared/mine", _folder)
_add(
    "annotations",
    "Images labelled in COCO JSON, YOLO polygons, CVAT or Label Studio.\n\n"
    "Where regions overlap, the smaller one lies on top.",
    "--source instances.json --images photos",
    _annotations,
)
_add("hub", "A dataset of the Hugging Face Hub, or a folder in imagefolder or Parquet form.", "--source ORG/NAME", _hub)
_add_shapes("shapes", "Scenes of drawn things and stuff, made in seconds.", stuff=True)
_add_shapes("shapes-things", "The same scenes, only their things labelled.", stuff=False)
