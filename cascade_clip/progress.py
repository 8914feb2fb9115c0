"""How the library says how far it is; the command line draws it."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called after every item with how many are done, how many there are (0: not known), and which it was."""

Doing = Callable[[str], None]
"""Called with what is being done, where that takes a while: "loading CLIP ViT-B-16"."""


def unheard(_what: str) -> None:
    """The `Doing` where nobody listens: nothing."""
