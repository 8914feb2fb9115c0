"""One reader of class files, and names that are one to the tokenizer."""

import json

import pytest

from cascade_clip.config.class_names import class_synonyms, listed_names, read_class_names, spoken_form
from cascade_clip.errors import UserError

NAMES = [f"class {index}" for index in range(12)]


def test_classes_have_synonyms():
    assert class_synonyms(["road", "sofa | couch"]) == [["road"], ["sofa", "couch"]]
    with pytest.raises(UserError, match="No classes are given"):
        class_synonyms([])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfroad\n\n# a remark\n  sofa|couch  \n", ["road", "sofa|couch"]),
        (b"\n# only\n", "holds no class name"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (None, r'class file ".*classes\.txt" cannot be read: No such file'),
    ],
)
def test_class_files_hold_a_name_a_line(tmp_path, content: bytes | None, expected: list[str] | str):
    if content is not None:
        (tmp_path / "classes.txt").write_bytes(content)
    if isinstance(expected, list):
        assert read_class_names(tmp_path / "classes.txt") == expected
        return
    with pytest.raises(UserError, match=expected):
        read_class_names(tmp_path / "classes.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("commented.txt", "# my classes\n" + "\n".join(NAMES)),
        ("blank.txt", "\n\n".join(NAMES)),
        ("windows.txt", "\ufeff" + "\r\n".join(NAMES)),
        ("numbered.txt", "\n".join(f"{index}: {name}" for index, name in enumerate(NAMES))),
        ("from-one.txt", "\n".join(f"{index}, {name}" for index, name in enumerate(NAMES, start=1))),
        ("sorted-as-text.json", json.dumps({key: NAMES[int(key)] for key in sorted(map(str, range(12)))})),
        ("void.json", json.dumps({**dict(enumerate(NAMES)), 255: "void"})),
        ("config.json", json.dumps({"id2label": dict(enumerate(NAMES))})),
        ("list.json", json.dumps(NAMES)),
        ("list.txt", json.dumps(NAMES, indent=1)),
        ("numbers-last.csv", "\n".join(f"{name},{index}" for index, name in enumerate(NAMES))),
    ],
)
def test_every_form_of_a_list_gives_the_same_classes(name: str, content: str, tmp_path):
    (tmp_path / name).write_bytes(content.encode())
    assert read_class_names(tmp_path / name) == NAMES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ignored.txt", "road\ntree\nIgnored", 'lists "Ignored", which is no class: .* with --ignore'),
        ("ignored.json", '{"0": "road", "1": "ignored"}', 'lists "ignored", which is no class'),
        ("gap.txt", "0: a\n2: b", "numbers its classes 0, 2, ...: they must count up by one"),
        ("gap.json", '{"0": "a", "3": "b"}', "numbers its classes 0, 3"),
        ("text.json", '{"a": "b"}', "must map"),
        ("broken.json", "{", "is no valid JSON"),
        ("turned.csv", "b,1\na,0", "numbers its classes 1, 0"),
        (
            "heading.csv",
            "id,name\n0,a\n1,b",
            'begins with "id,name", and every other line has a number: .* a heading, or number it',
        ),
        ("data.yaml", "names:\n  0: a", "is no class file"),
    ],
)
def test_lists_that_cannot_be_meant(name: str, content: str, message: str, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_class_names(tmp_path / name)


def test_spoken_form():
    same = ["caf\u00e9 au lait", "cafe\u0301 au lait", "  Caf\u00e9  au&#32;lait"]
    assert {spoken_form(name) for name in same} == {"caf\u00e9 au lait"}
    assert spoken_form("\u200b\u2060 \u3164\u00ad") == ""
    assert spoken_form("traffic_light") != spoken_form("traffic light")


def test_semicolons_between_names_are_refused_and_entities_are_not():
    for given in ("road;tree", "sky, road;tree"):
        with pytest.raises(UserError, match=r'^--classes: "road;tree" is a single name: write commas between names'):
            listed_names(given, "--classes")
    assert listed_names("black &amp; white", "--classes") == ["black &amp; white"]
    with pytest.raises(UserError, match=r'^--classes lists "ignored", which is no class'):
        listed_names("road, ignored", "--classes")
