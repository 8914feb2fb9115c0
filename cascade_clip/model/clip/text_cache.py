"""Text embeddings on disk and in memory, keyed by CLIP identity, templates and names."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cascade_clip.files import cache_folder, write_files

log = logging.getLogger(__name__)

MOST_IN_MEMORY = 16
"""Vocabularies that are kept in memory, the latest ones."""

Key = tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]


class TextCache:
    """A folder of embeddings, one file a vocabulary. A file that cannot be read or written is computed anew instead."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder` None: `text` in `cascade_clip.files.cache_folder`."""
        self.folder = folder or cache_folder() / "text"
        self._latest: dict[Key, Tensor] = {}

    def get(self, key: Key) -> Tensor | None:
        """Embeddings (K, C) float32 of a vocabulary (CLIP hash, templates, words of each class); None: not cached."""
        if key in self._latest:
            return self._latest[key]
        file = self._file(key)
        try:
            return self._remember(key, load_file(file)["text"]) if file.exists() else None
        except (SafetensorError, KeyError, OSError) as error:
            log.warning("Ignoring the unreadable text cache %s: %s", file, error)
            return None

    def put(self, key: Key, text: Tensor) -> None:
        """Keep embeddings (K, C) float32; a full or read-only disk only costs the next start its time."""
        self._remember(key, text)
        try:
            write_files({self._file(key): save({"text": text.contiguous()})})
        except OSError as error:
            log.warning("Text embeddings are not cached: %s", error)

    def _remember(self, key: Key, text: Tensor) -> Tensor:
        self._latest[key] = text
        if len(self._latest) > MOST_IN_MEMORY:
            del self._latest[next(iter(self._latest))]
        return text

    def _file(self, key: Key) -> Path:
        digest = hashlib.sha256(json.dumps(key, ensure_ascii=False).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.safetensors"
