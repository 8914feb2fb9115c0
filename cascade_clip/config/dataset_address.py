"""Place of a dataset as the user writes it: a folder or an address."""

from pathlib import Path


def as_location(given: object) -> object:
    """Take an address (`hub:ORG/NAME`, `https://...`) as it is written, other text as a path, else a ValueError."""
    if not isinstance(given, str | Path | None):
        raise ValueError(f"a folder or an address is expected (got {given!r})")
    return Path(given) if isinstance(given, str) and not is_address(given) else given


def is_address(given: Path | str) -> bool:
    """Whether a dataset is given by an address and not by a folder."""
    return str(given).startswith("hub:") or "://" in str(given)
