"""Splits by name, splits of one's own, and what is said about mistakes in them."""

import json
import os
from pathlib import Path

import pytest

from cascade_clip.config.class_names import class_synonyms
from cascade_clip.data.catalogue import default_colour, get_split, split_for_dataset_folder, split_names
from cascade_clip.data.class_list_file import parse_colour
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.errors import UserError


@pytest.mark.parametrize(("dataset", "key"), [("coco", "coco_stuff_171"), ("voc", "voc_20"), ("context", "context_59")])
def test_class_order_and_released_indices_are_the_golden_ones(golden: Path, dataset: str, key: str):
    expected = json.loads((golden / "splits.json").read_text())[key]
    seen_split = get_split("context-released-seen" if dataset == "context" else f"{dataset}-seen")
    assert list(get_split(dataset).class_names) == expected["classes"]
    assert list(seen_split.class_names) == expected["classes"]
    assert list(seen_split.unseen_indices) == expected["unseen_idx"]
    assert list(seen_split.seen_indices) == expected["seen_idx"]


def test_context_seen_hides_the_ten_of_the_literature():
    names = {"cow", "motorbike", "sofa", "cat", "boat", "fence", "bird", "tvmonitor", "keyboard", "aeroplane"}
    assert get_split("context-seen").unseen == names


def test_names_that_read_badly_have_a_prompt_that_reads_well():
    prompts = {entry.name: entry.prompt for name in ("coco", "voc", "context") for entry in get_split(name).classes}
    assert prompts["wall-concrete"] == "concrete wall"
    assert prompts["pottedplant"] == "potted plant"
    assert prompts["grass"] == "grass"
    assert not any("-" in prompt for prompt in prompts.values())


@pytest.mark.parametrize("dataset", ["voc", "context"])
def test_classes_behind_a_background_are_those_without_it(dataset: str):
    background, *others = get_split(f"{dataset}-background").classes
    assert (background.name, background.prompt, background.colour) == ("background", "background", (0, 0, 0))
    assert tuple(others) == get_split(dataset).classes


def test_classes_of_coco_object_are_the_things_of_coco_stuff():
    things = get_split("coco").classes[:80]
    others = get_split("coco-object").classes[1:]
    assert [(entry.name, entry.prompt, entry.colour) for entry in others] == [
        (entry.name, entry.prompt, entry.colour) for entry in things
    ]


SIZES = {"coco": 171, "voc": 20, "context": 59, "ade20k": 150, "cityscapes": 19}
SIZES |= {"voc-background": 21, "context-background": 60, "coco-object": 81}


@pytest.mark.parametrize("name", SIZES)
def test_benchmarks_for_evaluation_hide_no_class(name: str):
    split = get_split(name)
    assert (split.dataset, len(split.classes), split.unseen) == (name, SIZES[name], frozenset())
    assert len(set(split.colours)) == len(split.classes)
    assert class_synonyms(split.prompts)  # no word stands for two classes


def test_words_of_a_class_are_read(tmp_path):
    path = _write(
        tmp_path, 'dataset = "a"\nclasses = [{ name = "tv", words = ["tv", "screen"] }, { name = "b" }]\n[splits.a]\n'
    )
    assert [entry.queries for entry in get_split(path).classes] == [("tv", "screen"), ("b",)]
    wrong = _write(tmp_path, 'dataset = "a"\nclasses = [{ name = "tv", words = ["tv", " "] }]\n[splits.a]\n')
    with pytest.raises(UserError, match=r"classes\.0\.words\.1"):
        get_split(wrong)


def test_voc_has_its_official_palette():
    by_name = {entry.name: entry.colour for entry in get_split("voc").classes}
    assert (by_name["aeroplane"], by_name["person"]) == ((128, 0, 0), (192, 128, 128))
    assert [default_colour(i) for i in range(20)] == list(get_split("voc").colours)
    assert len({default_colour(i) for i in range(255)}) == 255


def test_unknown_split_offers_the_closest():
    with pytest.raises(UserError, match=r'no split "coco-sene"\. Did you mean "coco-seen"'):
        get_split("coco-sene")
    assert {"coco", "voc", "context", "coco-seen", "voc-seen", "context-seen"} <= set(split_names())


def _write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_split(tmp_path):
    path = _write(
        tmp_path,
        'dataset = "street"\n'
        'classes = [{ name = "road", colour = "#804080" }, { name = "tv", prompt = "television|screen" }]\n'
        '[splits.street-seen]\nunseen = ["tv"]\n',
    )
    split = get_split(path)
    assert (split.name, split.dataset, split.unseen_indices) == ("street-seen", "street", (1,))
    assert split.classes[0].colour == (128, 64, 128)
    assert split.prompts == ("road", "television|screen")


def test_own_choice_of_unseen_classes_of_a_built_in_dataset(tmp_path):
    (tmp_path / "x:y").mkdir()
    path = _write(tmp_path / "x:y", 'dataset = "voc"\n[splits.a]\nunseen = ["cat"]\n[splits.b]\nunseen = ["dog"]\n')
    assert get_split(f"{path}:b").unseen == {"dog"}
    assert get_split(f"{path}:b").classes == get_split("voc").classes
    with pytest.raises(UserError, match=r"holds several splits \(a, b\); say which one, for example .*mine.toml:a"):
        get_split(path)
    with pytest.raises(UserError, match='holds no split "c"'):
        get_split(f"{path}:c")


def test_all_mistakes_are_named_at_once(tmp_path):
    path = _write(
        tmp_path,
        'dataset = "street"\n'
        'classes = [{ name = "road" }, { name = "road" }, { name = " " }, { name = "tree" }]\n'
        '[splits.mine]\nunseen = ["tre", "tree", "tree"]\n',
    )
    with pytest.raises(UserError) as caught:
        get_split(path)
    assert str(caught.value).splitlines() == [
        f"The split file {path} has mistakes:",
        "  classes[2].name: the name is empty.",
        '  classes: the name "road" is listed 2 times; names must differ.',
        '  splits.mine.unseen: "tre" is none of the classes. Did you mean "tree"?',
        '  splits.mine.unseen: "tree" is listed more than once.',
    ]


def test_unknown_and_missing_keys_are_named_with_the_closest(tmp_path):
    path = _write(tmp_path, 'classes = [{ name = "a", color = "#fff" }, { name = "b", colour = "red" }]\nsplit = 1\n')
    with pytest.raises(UserError) as caught:
        get_split(path)
    text = str(caught.value)
    assert text.startswith(f"There are 5 mistakes in the split file {path}:")
    assert 'classes.0.color: unknown key. Did you mean "colour"?' in text
    assert "classes.1.colour: a colour is" in text
    assert text.count("got 'red'") == 1
    assert "dataset: is missing" in text
    assert 'split: unknown key. Did you mean "splits"?' in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('dataset = "street"\n[splits.a]\n', 'classes: it is missing, and "street" is no built-in dataset'),
        ('dataset = "voc"\n[splits]\n', "splits: "),
        ("dataset = ", "is no valid TOML"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ('dataset = "x"\nclasses = [{ name = "a", prompt = "" }]\n[splits.a]\n', r"classes\[0\]\.prompt: .* is empty"),
        (
            'dataset = "x"\nclasses = [{ name = "a", prompt = "b| " }]\n[splits.a]\n',
            r"classes\[0\]\.prompt: .* is empty",
        ),
        ('dataset = "x"\nclasses = [{ name = "&nbsp;" }]\n[splits.a]\n', r"classes\[0\]\.name: the name is empty"),
        ('dataset = "x"\nclasses = [{ name = nan }]\n[splits.a]\n', "classes.0.name: text is expected"),
        (
            'dataset = "x"\nclasses = [{ name = "a" }]\n[splits.a]\nunseen = ["a"]\n',
            "every class is unseen; at least one must be seen",
        ),
        (
            'dataset = "x"\nclasses = [' + ", ".join(f'{{ name = "c{i}" }}' for i in range(256)) + "]\n[splits.x]\n",
            "there are 256; at most 255 fit into 8-bit labels",
        ),
    ],
)
def test_files_that_cannot_be_a_split(tmp_path, content: str, message: str):
    with pytest.raises(UserError, match=message):
        get_split(_write(tmp_path, content))
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UserError, match=r'pipe\.toml" cannot be read: it is no file'):
        get_split(tmp_path / "pipe.toml")
    with pytest.raises(UserError, match=r'none\.toml" cannot be read: No such file'):
        get_split(tmp_path / "none.toml")


def test_colours_are_read_in_three_ways():
    for given in ("#0a14ff", "10,20,255", [10, 20, 255]):
        assert parse_colour(given) == (10, 20, 255)
    for wrong in ("#0a14f", "10,20", "10,20,256", "red", [1, 2], [True, 1, 2], 7):
        with pytest.raises(ValueError, match="a colour is"):
            parse_colour(wrong)


def _write_info(folder: Path, classes: tuple[str, ...], **more: object) -> None:
    info = DatasetInfo(name="mine", classes=classes, options={}, sources=(), tool="test", parts={}, **more)
    (folder / "dataset.json").write_text(info.model_dump_json())


def test_a_prepared_folder_is_a_split_of_seen_classes(tmp_path):
    _write_info(tmp_path, ("one", "two"))
    split = split_for_dataset_folder(tmp_path)
    assert (split.name, split.class_names, split.unseen) == ("mine", ("one", "two"), frozenset())
    assert split.colours == ((128, 0, 0), (0, 128, 0))
    _write_info(tmp_path, ("one", "two"), colours=((1, 2, 3), (4, 5, 6)))
    assert split_for_dataset_folder(tmp_path).colours == ((1, 2, 3), (4, 5, 6))


def test_a_prepared_folder_of_known_classes_has_their_prompts(tmp_path):
    _write_info(tmp_path, get_split("voc").class_names)
    assert split_for_dataset_folder(tmp_path).classes == get_split("voc").classes
    _write_info(tmp_path, get_split("voc").class_names[::-1])
    assert split_for_dataset_folder(tmp_path).class_names == get_split("voc").class_names[::-1]
