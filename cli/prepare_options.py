"""Options of `prepare-data`, in groups that several sources share; see `options.with_groups`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cascade_clip.config import class_names
from cascade_clip.errors import UserError
from cascade_clip_cli.checked_options import as_path, finite, input_file, place
from cascade_clip_cli.options import LARGEST_SEED, MOST_PROCESSES, MOST_SCENES, JsonOption, OutputOption, QuietOption


def path_option(text: str, check: Callable[..., Any] = place, **more: Any) -> Any:
    """An option that takes a path, which is checked as it is read."""
    return typer.Option(parser=as_path, callback=check, help=text, **more)


# --- several sources ------------------------------------------------------------------------------------------------

Subset = Annotated[int | None, typer.Option(min=1, help="Only N images of each part, to try things out.")]


@dataclass(frozen=True)
class Shared:
    """What every source has."""

    output: OutputOption = None
    name: Annotated[str | None, typer.Option(help="Name of the dataset.")] = None
    workers: Annotated[
        int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Processes; default: one per processor.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the output folder.")] = False
    push_to_hub: Annotated[str | None, typer.Option("--push-to-hub", metavar="ORG/NAME", help="Upload the result.")] = (
        None
    )
    private: Annotated[bool, typer.Option("--private", help="Upload to a repository that only you see.")] = False
    rights_checked: Annotated[
        bool, typer.Option("--rights-checked", help="I may publish the benchmark's images: upload them openly.")
    ] = False
    json_file: JsonOption = None
    quiet: QuietOption = False


@dataclass(frozen=True)
class ClassNames:
    """Names of the classes, in one of two ways."""

    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Class names in the order of the mask values.")
    ] = None
    classes_file: Annotated[
        Path | None, path_option("Class names, one per line; default: classes.txt in the source folder.", input_file)
    ] = None

    def read(self) -> list[str] | None:
        """The names; None: neither option was given."""
        if self.classes is not None and self.classes_file is not None:
            raise UserError("Give the class names with --classes or with --classes-file, not with both.")
        if self.classes is not None:
            return class_names.listed_names(self.classes, "--classes")
        return class_names.read_class_names(self.classes_file) if self.classes_file is not None else None


@dataclass(frozen=True)
class Values:
    """What the values of index masks mean."""

    ignore: Annotated[
        list[str] | None, typer.Option(help="Mask value, or #rrggbb, that means no class; repeatable.")
    ] = None
    first_index: Annotated[int, typer.Option(help="Mask value of the first class.")] = 0
    mask_values: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Mask values of the classes, if not 0, 1, 2, …: e.g. 0,255.")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The same as arguments of the functions that prepare index masks."""
        given = None if self.mask_values is None else [value.strip() for value in self.mask_values.split(",")]
        if given is not None and not all(value.isdecimal() and value.isascii() for value in given):
            raise UserError(
                f'--mask-values takes numbers of 0 to 255, one for each class, as in 0,255; got "{self.mask_values}".'
            )
        return {
            "ignore": tuple(self.ignore or ()),
            "first_index": self.first_index,
            "mask_values": None if given is None else list(map(int, given)),
        }


@dataclass(frozen=True)
class Lists:
    """Which images are for training and which for validation, by name."""

    train_list: Annotated[Path | None, path_option("File with the names of training images.", input_file)] = None
    val_list: Annotated[Path | None, path_option("File with the names of validation images.", input_file)] = None


@dataclass(frozen=True)
class Draw:
    """Drawing of validation images."""

    val_fraction: Annotated[
        float,
        typer.Option(min=0, max=0.99, callback=finite, help="Share for validation, if the source has no such part."),
    ] = 0.2
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed for choosing validation images.")] = 0


# --- benchmarks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Official:
    """Where a benchmark's files are."""

    source: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", callback=place, help="Folder with the official files, packed or unpacked, or one archive."
        ),
    ] = None
    download: Annotated[bool, typer.Option("--download", help="Download what is missing into --source first.")] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the terms without being asked.")] = False
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Download from this address instead.")] = None


@dataclass(frozen=True)
class Own:
    """What a benchmark's preparation takes besides."""

    subset: Subset = None


@dataclass(frozen=True)
class OwnOfVoc(Own):
    """The same for VOC 2012."""

    sbd: Annotated[
        Path | None,
        path_option("SBD additions, if not in --source: benchmark.tgz or SegmentationClassAug, folder or archive."),
    ] = None


@dataclass(frozen=True)
class OwnOfContext(Own):
    """The same for PASCAL Context."""

    annotations: Annotated[Path | None, path_option("Labels, if not in --source: folder or file.")] = None
    class_order: Annotated[
        Literal["alphabetical", "voc-first"] | None,
        typer.Option(help="Numbering of converted masks, if nothing tells; alphabetical is mmsegmentation's."),
    ] = None


# --- others ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folders:
    """Where images and masks of one's own are."""

    source: Annotated[
        Path | None, path_option("Folder with images, masks and classes.txt, unless they are given one by one.")
    ] = None
    images: Annotated[Path | None, path_option("Default: SOURCE/images.")] = None
    masks: Annotated[Path | None, path_option("Default: SOURCE/masks.")] = None

    def inside(self, given: Path | None, name: str, what: str, option: str | None = None) -> Path:
        """A path that was given, else the one of this name in the source folder."""
        if given is not None:
            return given
        if self.source is None:
            raise UserError(f"Say where the {what} are: --source FOLDER with {name} in it, or --{option or name}.")
        source = self.source.expanduser()
        if not source.is_dir():
            raise UserError(f'There is no folder "{source}" for --source.')
        if not (source / name).exists():
            raise UserError(f'"{source}" holds no {name}: put the {what} there, or give --{option or name}.')
        return source / name


@dataclass(frozen=True)
class Rows:
    """Which rows of a foreign dataset are read, and how."""

    stream: Annotated[bool, typer.Option("--stream", help="Keep nothing of the source on the disk.")] = False
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None
    config: Annotated[str | None, typer.Option(help="Configuration, where there are several.")] = None
    image_column: Annotated[str | None, typer.Option(help="Column of images; default: detected.")] = None
    label_column: Annotated[str | None, typer.Option(help="Column of masks; default: detected.")] = None
    train_split: Annotated[str, typer.Option(help="Name of the training part.")] = "train"
    val_split: Annotated[str | None, typer.Option(help="Name of the validation part; default: detected.")] = None


@dataclass(frozen=True)
class Scenes:
    """How many scenes are drawn."""

    train: Annotated[int, typer.Option(min=1, max=MOST_SCENES, help="Scenes for training.")] = 2000
    val: Annotated[int, typer.Option(min=1, max=MOST_SCENES, help="Scenes for validation.")] = 300
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the scenes.")] = 0
