"""Hashes of large weights files that were read and checked as a whole before."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cascade_clip
from cascade_clip.files import cache_folder, write_files

log = logging.getLogger(__name__)

LEAST_BYTES = 2**25
"""Smaller files are read anew each time: it takes no time that anyone would notice."""
SETTLED = 2.0
"""Seconds after its last change from which on another change surely alters a file's times, on every file system."""


class KnownWeights:
    """What was found when a weights file was last read: the CLIP's hash (`load.hash_of_weights`), or nothing.

    Another file at the place, or a write to it, changes the file's number, size or times: it counts as unknown then.
    Make it before the file is read, so that what is remembered belongs to what was read.
    """

    def __init__(self, file: Path, model_config: Mapping[str, Any]) -> None:
        """`model_config` are open_clip's settings of the model that takes the weights."""
        self._note: Path | None = None
        try:
            status = file.stat()
        except OSError:  # whoever reads it tells the user
            return
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        if status.st_size >= LEAST_BYTES and time.time_ns() - changed > SETTLED * 1e9:
            numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            key = json.dumps([cascade_clip.__version__, str(file.resolve()), numbers, model_config], sort_keys=True)
            self._note = cache_folder() / "clip" / hashlib.sha256(key.encode()).hexdigest()[:32]

    def sha256(self) -> str | None:
        """The hash that was remembered, 64 hexadecimal digits; None: the file must be read and checked."""
        try:
            text = self._note.read_text(encoding="ascii") if self._note is not None else ""
        except (OSError, ValueError):
            return None
        return text if re.fullmatch("[0-9a-f]{64}", text) else None

    def remember(self, sha256: str) -> None:
        """Keep the hash of weights that were checked; a full or read-only disk only costs the next start its time."""
        try:
            if self._note is not None:
                write_files({self._note: sha256.encode("ascii")})
        except OSError as error:
            log.warning("The hash of the CLIP weights is not cached: %s", error)
