"""What `prepare-data` does for each kind of source."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_clip.errors import UserError
from cascade_clip_cli.console import progress_bar

if TYPE_CHECKING:
    from cascade_clip.data.class_list_file import Colour
    from cascade_clip.data.dataset_info import DatasetInfo

OFFICIAL_TITLES = {"coco": "COCO-Stuff 164K", "voc": "VOC 2012", "context": "PASCAL Context"}


@dataclass(frozen=True)
class Target:
    """What every kind of source has in common."""

    name: str
    output: Path
    workers: int
    overwrite: bool

    def options(self) -> dict[str, Any]:
        """As the library's functions take it."""
        return {"workers": self.workers, "overwrite": self.overwrite}


@dataclass(frozen=True)
class Division:
    """Which images are for training and which for validation, where the source does not say."""

    train_list: Path | None
    val_list: Path | None
    val_fraction: float
    seed: int


@dataclass(frozen=True)
class FolderFiles:
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


def prepare_shapes(target: Target, train: int, val: int, seed: int, *, stuff: bool) -> DatasetInfo:
    """Draw the scenes of the drawn world, with labels of its things alone or of its stuff too."""
    from cascade_clip.data.dataset_info import read_dataset_info
    from cascade_clip.shapes.prepare import prepare_shapes as draw

    with progress_bar("Drawing scenes") as progress:
        draw(target.output, train=train, val=val, seed=seed, stuff=stuff, progress=progress, **target.options())
    return read_dataset_info(target.output)


def prepare_coco(target: Target, source: Path, subset: int | None) -> DatasetInfo:
    """Prepare COCO-Stuff 164K."""
    from cascade_clip.preparation.prepare_coco import prepare_coco as prepare

    with progress_bar("Preparing COCO-Stuff 164K") as progress:
        return prepare(
            target.output, source=source, subset=subset, name=target.name, progress=progress, **target.options()
        )


def prepare_voc(target: Target, source: Path, subset: int | None, sbd: Path | None) -> DatasetInfo:
    """Prepare VOC 2012."""
    from cascade_clip.preparation.prepare_voc import prepare_voc as prepare

    with progress_bar("Preparing VOC 2012") as progress:
        return prepare(
            target.output,
            source=source,
            sbd=sbd,
            subset=subset,
            name=target.name,
            progress=progress,
            **target.options(),
        )


def prepare_context(
    target: Target, source: Path, subset: int | None, annotations: Path | None, class_order: str | None
) -> DatasetInfo:
    """Prepare PASCAL Context."""
    from cascade_clip.preparation.prepare_context import prepare_context as prepare

    order = _class_order(class_order)
    with progress_bar("Preparing PASCAL Context") as progress:
        return prepare(
            target.output,
            source=source,
            annotations=annotations,
            class_order=order,
            subset=subset,
            name=target.name,
            progress=progress,
            **target.options(),
        )


def _class_order(given: str | None) -> Any:
    from typing import get_args

    from cascade_clip.errors import closest
    from cascade_clip.preparation.context_classes import ClassOrder

    known = get_args(ClassOrder)
    if given is not None and given not in known:
        raise UserError(f'--class-order is alphabetical or voc-first; got "{given}".{closest(given, known)}')
    return given


def prepare_folder(
    target: Target, files: FolderFiles, division: Division, ignore: tuple[str, ...], first_index: int
) -> DatasetInfo:
    """Prepare images and masks of one's own."""
    from cascade_clip.preparation.prepare_folder import prepare_folder as prepare

    classes, colours = _classes_and_colours(files)
    with progress_bar("Preparing images") as progress:
        return prepare(
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
            progress=progress,
            **target.options(),
        )


def _classes_and_colours(files: FolderFiles) -> tuple[list[str], dict[str, Colour] | None]:
    """Class names from --classes, a file, the colour table, or the source folder, in this order."""
    from cascade_clip.preparation.source_files import read_colours, read_lines

    colours = read_colours(files.colours) if files.colours else None
    named = given_classes(files.classes, files.classes_file)
    if named is not None:
        return named, colours
    default = files.source / "classes.txt" if files.source else None
    if colours is not None and not (default and default.is_file()):
        return list(colours), colours
    return read_lines(files.inside(None, "classes.txt", "class names"), "list of classes"), colours


def given_classes(classes: str | None, classes_file: Path | None) -> list[str] | None:
    """Class names from --classes or --classes-file; none where neither was given."""
    from cascade_clip.preparation.source_files import read_lines

    if classes is not None and classes_file is not None:
        raise UserError("Give the class names with --classes or with --classes-file, not with both.")
    if classes is not None:
        return [name.strip() for name in classes.split(",")]
    return read_lines(classes_file, "list of classes") if classes_file is not None else None


@dataclass(frozen=True)
class HubSource:
    """Which rows of a dataset that `datasets` reads are taken."""

    source: str
    stream: bool
    revision: str | None
    config: str | None
    image_column: str | None
    label_column: str | None
    train_split: str
    val_split: str | None


def prepare_hub(
    target: Target,
    rows: HubSource,
    division: Division,
    classes: list[str] | None,
    ignore: tuple[str, ...],
    first_index: int,
    subset: int | None,
) -> DatasetInfo:
    """Prepare a dataset of the Hub, or a folder in `imagefolder` or Parquet form."""
    from cascade_clip.preparation.prepare_hub import prepare_hub as prepare

    with progress_bar("Preparing images") as progress:
        return prepare(
            target.output,
            name=target.name,
            val_fraction=division.val_fraction,
            seed=division.seed,
            classes=classes,
            ignore=ignore,
            first_index=first_index,
            subset=subset,
            progress=progress,
            **asdict(rows),
            **target.options(),
        )
