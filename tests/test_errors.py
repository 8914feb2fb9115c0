"""Messages: what they show of values of any length, and why the system refused."""

import errno

import pytest

from cascade_clip.errors import LONGEST_LINE, MOST_LINES, UserError, counted, raise_refusal, reason_of


def test_a_value_of_any_length_stands_in_a_short_message():
    message = str(UserError(f'The class "{"x" * 3_000_000}" is given twice: name every class once.'))
    assert len(message) < LONGEST_LINE
    assert message.startswith('The class "xxx')
    assert message.endswith('xxx" is given twice: name every class once.')
    assert "characters …]" in message
    lines = str(UserError("\n".join(f"line {number}" for number in range(10_000)))).split("\n")
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == f"  and {10_000 - MOST_LINES:,} more lines."
    assert str(UserError("short")) == "short"


def test_reasons():
    assert reason_of(PermissionError(errno.EACCES, "Permission denied", "x")) == "Permission denied"
    assert reason_of(ValueError("one\ntwo")) == "one"
    assert reason_of(OSError()) == "OSError"


def test_only_a_refusal_is_told_as_one():
    for error in (ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), OSError("broken data stream")):
        raise_refusal(error, "The file")
    with pytest.raises(UserError, match="The file cannot be read: Permission denied"):
        raise_refusal(PermissionError(errno.EACCES, "Permission denied"), "The file")


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1200, "class", "1,200 classes"),
        (2, "process", "2 processes"),
        (1, "process", "1 process"),
        (3, "patch", "3 patches"),
    ],
)
def test_numbers_with_what_they_count(count: int, noun: str, said: str):
    assert counted(count, noun) == said
