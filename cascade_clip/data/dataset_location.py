"""Where datasets are looked for: what is given, `$CASCADE_CLIP_DATA`, the user's own data folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cascade_clip.config.dataset_address import is_address
from cascade_clip.data.dataset_info import INFO_FILE
from cascade_clip.errors import UserError
from cascade_clip.files import DATA_VARIABLE, data_folder


def locate_dataset(
    name: str, data: Path | str | None = None, *, stream: bool = False, class_names: Sequence[str] | None = None
) -> Path:
    """Find the folder through which a dataset is opened.

    Args:
        name: Name of the dataset, for example "voc".
        data: The dataset's folder, or a folder that holds it under its name; None: `data_folder()` holds it.
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
    home = Path(data).expanduser() if data else data_folder()
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
