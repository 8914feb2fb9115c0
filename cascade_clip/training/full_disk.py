"""A full disk, as Python, safetensors and PyTorch report it, in one sentence."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cascade_clip.errors import UserError
from cascade_clip.training.run_folder import RunFolder

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SAFETENSORS = re.compile(rf"os error ({'|'.join(map(str, sorted(_NO_ROOM)))})\b")
# PyTorch's archive writer does not pass on the system's reason.
_PYTORCH = re.compile(r"PytorchStreamWriter failed|inline_container\.cc|unexpected pos \d+ vs \d+")


@contextmanager
def explained_full_disk(run: RunFolder) -> Iterator[None]:
    """Around everything that writes into a run's folder.

    Raises:
        UserError: The disk, or the user's share of it, is full. The states that were saved before are as they were.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_full_disk(error):
            raise
        place = Path(str(error.filename)) if isinstance(error, OSError) and error.filename else run.folder
        kept = run.latest_state()
        if not run.recipe_file.exists():
            way_out = "Free some space and repeat the command"
        elif kept is None:
            way_out = "Free some space, then begin again with --resume"
        else:
            way_out = f"Free some space, then continue from {kept.name} with --resume"
        raise UserError(f'The disk is full: "{place}" could not be written. {way_out}.') from error


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return bool((_SAFETENSORS if isinstance(error, SafetensorError) else _PYTORCH).search(str(error)))
