"""Where a checkpoint is: a folder, the package itself, or the Hugging Face Hub."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from huggingface_hub import snapshot_download

from cascade_clip.data.hub_address import HubAddress, hub_error
from cascade_clip.errors import UserError
from cascade_clip.files import usable_path
from cascade_clip.model.clip.load import BUNDLED
from cascade_clip.reachability import hub_or_cache


def checkpoint_folder(folder_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """Find a checkpoint; one on the Hub is downloaded, or taken from the cache where the Hub cannot be reached.

    The Hub is asked each time for the commit of a branch or tag, so that updates are seen; files in the cache are not
    downloaded again.

    Args:
        folder_or_hub_id: A folder, which is not opened; `bundled`; or `ORG/NAME` on the Hub.
        revision: Branch, tag or commit on the Hub; None: main.

    Raises:
        UserError: There is no such model or revision, its terms are to be accepted first, or it is neither in the cache
            nor can the Hub be reached; a revision of what is not on the Hub.
    """
    name = str(folder_or_hub_id)
    if name == BUNDLED:
        return Path(str(resources.files("cascade_clip") / "bundled" / "cascade-clip"))
    folder = usable_path(folder_or_hub_id, "The checkpoint")
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        if revision is not None:
            raise UserError(f'Revisions ("{revision}") are of models on the Hub, but "{name}" is a folder: leave it.')
        return folder
    try:
        with hub_or_cache():
            return Path(snapshot_download(name, revision=revision))
    except Exception as error:
        reason = hub_error(error, HubAddress(name, revision), kind="model")
        raise UserError(f'There is no folder "{name}", and as a model: {reason}') from error
