"""Errors that are the user's to mend: one clear sentence each, with the way out."""

import difflib
import errno
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# What Python makes of a byte of a file's name that is no UTF-8; no stream and no file takes it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

MOST_LINES = 60
"""Lines of a message; further ones are counted."""
LONGEST_LINE = 1200
"""Characters of a line of a message; of a longer one the middle is left out."""


class UserError(Exception):
    """A mistake in what the user gave (path, class, split, shape, checkpoint, recipe, image).

    The message is one or more whole sentences with the value given, what was expected and the way out. The command line
    prints it without a traceback and exits with code 2; from Python it is an ordinary exception. A value of any length
    may stand in the message: what makes it too long to read is left out (see `shortened`).
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(readable(message)))


def readable(text: Path | str) -> str:
    """A path, or a text with paths in it, for people: bytes of a file's name that are no UTF-8 appear as "\\xff"."""
    return _LONE_SURROGATE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", str(text))


def shortened(message: str, longest: int = LONGEST_LINE) -> str:
    """Leave out the middle of lines above `longest` characters, and the lines after the first `MOST_LINES`."""
    lines = message.split("\n")
    more = [f"  and {len(lines) - MOST_LINES:,} more lines."] if len(lines) > MOST_LINES else []
    return "\n".join([*(_shortened_line(line, longest) for line in lines[:MOST_LINES]), *more])


def _shortened_line(line: str, longest: int) -> str:
    if len(line) <= longest:
        return line
    begin, end = longest // 4, longest // 2
    return f"{line[:begin]} [… {len(line) - begin - end:,} characters …] {line[-end:]}"


def closest(given: str, known: Iterable[str]) -> str:
    """Say which known names, at most three, are nearest to a name that is not known.

    Gives `' Did you mean "a" or "b"?'` with a leading space, or `' Known: a, b, c.'` where nothing is near (at most
    twelve names, then a count); empty where nothing is known at all.
    """
    names = list(dict.fromkeys(known))
    by_folded = {name.casefold(): name for name in names}
    near = [by_folded[n] for n in difflib.get_close_matches(given.casefold(), by_folded, n=3, cutoff=0.6)]
    if near:
        return f" Did you mean {' or '.join(repr_name(n) for n in near)}?"
    if not names:
        return ""
    return f" Known: {listed(names, 12)}."


def listed(names: Sequence[str], most: int = 5) -> str:
    """Name the first few with commas between them, and count the rest: "a, b and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(count: int, noun: str) -> str:
    """Say how many there are of something, which is given in the singular: "1 image", "1,200 classes"."""
    plural = f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def repr_name(name: str) -> str:
    """Put a name into double quotes, as every message of the toolkit shows what the user gave."""
    return f'"{name}"'


def reason_of(error: BaseException) -> str:
    """Why the system refused: "Permission denied" of an `OSError`, else the first line of the message."""
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def innermost_reason(error: BaseException) -> str:
    """The `reason_of` the first failure, which libraries wrap into errors of their own several times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return reason_of(error)


def raise_refusal(error: BaseException, named: str) -> None:
    """Raise a `UserError` where the system refused to read a file, which then is neither damaged nor missing.

    `named` is the file, as the message begins. Any other error is left to the caller.
    """
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        raise UserError(f"{named} cannot be read: {reason_of(error)}.") from error


_REFUSALS = {
    getattr(errno, name)
    for name in "EACCES EPERM EIO EMFILE ENFILE ELOOP ENAMETOOLONG ESTALE ENOTCONN".split()  # noqa: SIM905
    if hasattr(errno, name)
}


def first_line(error: BaseException) -> str:
    """First line of another library's message, at most 200 characters, or the name of the error where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
