"""Command line of Cascade-CLIP, installed as `cascade_clip_cli`: parse, call the library, print.

Its files import modules of the library (`from cascade_clip.training import run_training`), not names out of them: such
a module is executed when one of its names is first used, so that `--help` and a mistake in the options cost no import
of torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


class _LazyLibrary(MetaPathFinder):
    """Finds the modules of `cascade_clip` and puts off executing them (Python's own `LazyLoader`)."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("cascade_clip."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        is_package = spec is not None and spec.submodule_search_locations is not None
        if spec is not None and isinstance(spec.loader, Loader) and not is_package:
            spec.loader = LazyLoader(spec.loader)
        return spec


sys.meta_path.insert(0, _LazyLibrary())
