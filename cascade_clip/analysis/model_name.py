"""Which model a name means where any of a checkpoint, a run or a CLIP may be given."""

from __future__ import annotations

from pathlib import Path

from cascade_clip.checkpoint.folder import CONFIG
from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import BUNDLED, model_config_of
from cascade_clip.model.dense import is_dense

_CLIP_SOURCES = ("hf-hub:", "local-dir:")


def model_name(given: str) -> str:
    """Bring a name to what `CascadeCLIP.from_pretrained` takes.

    Args:
        given: What that takes; a run's folder, which stands for its model; or a CLIP: an open_clip name with or without
            `:WEIGHTS`, `hf-hub:ORG/NAME` or `local-dir:FOLDER`.

    Raises:
        UserError: Neither a folder, nor a name of the Hub, nor a CLIP that open_clip knows.
    """
    if given == BUNDLED or is_dense(given):
        return given
    if given.startswith(_CLIP_SOURCES):
        return f"dense:{given}"
    folder = Path(given).expanduser()
    if folder.is_dir():
        run = not (folder / CONFIG).is_file() and (folder / "model" / CONFIG).is_file()
        return str(folder / "model" if run else folder)
    architecture, _, _ = given.partition(":")
    if "/" in architecture:
        return given
    try:
        model_config_of(architecture)
    except UserError as error:
        raise UserError(f'"{given}" is neither a checkpoint nor a run folder, and {error}') from error
    return f"dense:{given}"
