"""Where datasets are looked for: what is given, `$CASCADE_CLIP_DATA`, the user's own data folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cascade_clip.data.dataset_info import INFO_FILE
from cascade_clip.errors import UserError

DATA_VARIABLE = "CASCADE_CLIP_DATA"


def dataset_home() -> Path:
    """Folder that holds prepared datasets by name: `$CASCADE_CLIP_DATA`, else one in the user's data folder."""
    given = os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser() if given else _user_data_folder() / "cascade-clip"


def _user_data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Application Support").expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()


def as_location(given: object) -> object:
    """Take an address (`hub:ORG/NAME`, `https://...`) as it is written, any other text as a path."""
    return Path(given) if isinstance(given, str) and not is_address(given) else given


def is_address(given: Path | str) -> bool:
    """Whether a dataset is given by an address and not by a folder."""
    return str(given).startswith("hub:") or "://" in str(given)


def locate_dataset(
    name: str, data: Path | str | None = None, *, stream: bool = False, class_names: Sequence[str] | None = None
) -> Path:
    """Find the folder through which a dataset is opened.

    Args:
        name: Name of the dataset, for example "voc".
        data: The dataset's folder, or a folder that holds it under its name; where unset, `dataset_home()` holds it.
            Also whatever else `dataset_folder` takes: an address, a folder in `imagefolder` or Parquet form.
        stream: Read a dataset that lies elsewhere from there; see `dataset_folder`.
        class_names: Classes in label order, for a foreign dataset that does not name its own.

    Returns:
        A folder with a `dataset.json`.

    Raises:
        UserError: It is in none of these places; the message lists them and says how to prepare it.
    """
    from cascade_clip.hub.dataset_link import dataset_folder, holds_rows

    if data is not None and is_address(data):
        return dataset_folder(data, stream=stream, class_names=class_names)
    home = Path(data).expanduser() if data else dataset_home()
    places = [home, home / name] if data else [home / name]
    for place in places:
        if (place / INFO_FILE).is_file():
            return place
    if data and holds_rows(home):
        return dataset_folder(home, stream=stream, class_names=class_names)
    looked = " and ".join(str(place) for place in places)
    elsewhere = f"Give its folder with --data, set {DATA_VARIABLE}, or make" if data is None else "Make"
    raise UserError(
        f'The prepared dataset "{name}" was not found in {looked}. '
        f"{elsewhere} it with `cascade-clip prepare-data {name} --output {places[-1]}`."
    )
