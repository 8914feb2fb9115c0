"""Where a checkpoint lies: a folder, the toolkit's own, or the Hugging Face Hub."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import BUNDLED


def checkpoint_folder(folder_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """Find a checkpoint, which is downloaded from the Hub where it is not in the cache.

    Args:
        folder_or_hub_id: A folder, which is not looked into; `bundled`; or `ORG/NAME` on the Hub.
        revision: Branch, tag or commit on the Hub.

    Raises:
        UserError: The Hub does not give it.
    """
    name = str(folder_or_hub_id)
    if name == BUNDLED:
        return Path(str(resources.files("cascade_clip") / "bundled" / "cascade-clip"))
    folder = Path(folder_or_hub_id).expanduser()
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        return folder
    from huggingface_hub import snapshot_download

    # Found in the cache, a model needs no network; only then is the Hub asked.
    with contextlib.suppress(Exception):
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    try:
        return Path(snapshot_download(name, revision=revision))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f'"{name}" is neither a folder nor a model that the Hub gives ({reason}).') from error
