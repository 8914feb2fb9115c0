"""Class lists, splits and facts by name, from `benchmarks/*.toml` or a user's own file.

See cascade_clip/README.md, section 4.2.

A file names its dataset, lists the classes in label order and, for each split, the unseen classes by name; those of
published datasets also have a section `[benchmark]`, see `cascade_clip.data.benchmark`:

    dataset = "street"
    classes = [
      { name = "road", colour = "#804080" },
      { name = "tvmonitor", prompt = "television monitor|screen" },
    ]
    [splits.street-seen]
    unseen = ["tvmonitor"]

Without `classes`, those of the built-in dataset of that name are taken: another choice of unseen classes needs three
lines.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cascade_clip.data.benchmark import Benchmark
from cascade_clip.data.class_list_file import ClassEntry, ClassList, Colour, default_colour, read_class_list
from cascade_clip.data.dataset_info import read_dataset_info
from cascade_clip.errors import UserError, closest
from cascade_clip.files import usable_path

__all__ = [
    "ClassEntry",
    "Split",
    "benchmark",
    "benchmark_names",
    "default_colour",
    "find_benchmark",
    "get_split",
    "split_for_dataset_folder",
    "split_names",
]

_FOLDER = Path(__file__).with_name("benchmarks")


@dataclass(frozen=True)
class Split:
    """Classes of a dataset in label order, and which of them are unseen in training."""

    name: str
    dataset: str
    classes: tuple[ClassEntry, ...]
    unseen: frozenset[str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The dataset's own names in label order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts that read better, in label order; synonyms separated by "|"."""
        return tuple(entry.prompt for entry in self.classes)

    @property
    def colours(self) -> tuple[Colour, ...]:
        """RGB colours in label order."""
        return tuple(entry.colour for entry in self.classes)

    @property
    def seen_indices(self) -> tuple[int, ...]:
        """Indices of the seen classes, rising."""
        return tuple(i for i, entry in enumerate(self.classes) if entry.name not in self.unseen)

    @property
    def unseen_indices(self) -> tuple[int, ...]:
        """Indices of the unseen classes, rising."""
        return tuple(i for i, entry in enumerate(self.classes) if entry.name in self.unseen)


def benchmark_names() -> tuple[str, ...]:
    """Names of the published datasets that are prepared from official files."""
    return tuple(name for name, content in _class_lists().items() if content.benchmark)


def benchmark(name: str) -> Benchmark:
    """Look up the facts about a published dataset, for example "voc"; raises UserError where there is none."""
    found = find_benchmark(name)
    if found is None:
        raise UserError(f'There is no benchmark "{name}".{closest(name, benchmark_names())}')
    return found


def find_benchmark(dataset: str | None) -> Benchmark | None:
    """Look up the facts about a dataset where it is a published one; None: it is not."""
    found = _class_lists()[dataset].benchmark if dataset in _class_lists() else None
    return found.with_files_of(benchmark(found.files_of)) if found and found.files_of else found


def split_names() -> tuple[str, ...]:
    """Names of all built-in splits, dataset by dataset."""
    return tuple(_built_in())


def get_split(name_or_file: str | Path) -> Split:
    """Find a split by its name, such as "coco-seen", or read it from a TOML file: "FILE", or "FILE:NAME" for one of
    several.

    Raises UserError where the name is unknown (closest names are offered), or the file does not exist or has mistakes
    (all of them in one message, with keys and closest names).

    Example:
        >>> split = get_split("voc-seen")
        >>> len(split.class_names), sorted(split.unseen)
        (20, ['pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor'])
    """
    given = str(name_or_file)
    if given in _built_in():
        return _built_in()[given]
    file, wanted = given, ""
    if ".toml:" in given:
        file, _, wanted = given.rpartition(":")
    path = usable_path(file, "The split")
    if not file.endswith(".toml"):
        known = closest(given, split_names())
        raise UserError(f'There is no split "{given}".{known} A split of your own is given as a TOML file.')
    splits = _splits_of(read_class_list(path, _built_in_classes))
    if wanted and wanted not in splits:
        raise UserError(f'{file} holds no split "{wanted}".{closest(wanted, splits)}')
    first = next(iter(splits))
    if not wanted and len(splits) > 1:
        raise UserError(
            f"{file} holds several splits ({', '.join(splits)}); say which one, for example {file}:{first}."
        )
    return splits[wanted or first]


def split_for_dataset_folder(folder: Path) -> Split:
    """Make the fully supervised split of a prepared dataset: the classes of its `dataset.json`, none unseen.

    Its name is the dataset's; prompts and colours are those of the built-in class list with the same names, if any.
    """
    info = read_dataset_info(folder)
    for split in _built_in().values():
        if split.class_names == info.classes:
            return Split(info.name, info.name, split.classes, frozenset())
    colours = info.colours or tuple(default_colour(index) for index in range(len(info.classes)))
    classes = tuple(ClassEntry(name, name, colour) for name, colour in zip(info.classes, colours, strict=True))
    return Split(info.name, info.name, classes, frozenset())


@cache
def _class_lists() -> dict[str, ClassList]:
    contents = (
        read_class_list(file, lambda _: ()) for file in sorted(_FOLDER.glob("*.toml"), key=lambda file: file.stem)
    )
    return {content.dataset: content for content in contents}


@cache
def _built_in() -> dict[str, Split]:
    return {name: split for content in _class_lists().values() for name, split in _splits_of(content).items()}


def _splits_of(content: ClassList) -> dict[str, Split]:
    return {name: Split(name, content.dataset, content.classes, unseen) for name, unseen in content.unseen.items()}


def _built_in_classes(dataset: str) -> tuple[ClassEntry, ...]:
    return _class_lists()[dataset].classes if dataset in _class_lists() else ()
