"""Command line of Cascade-CLIP, installed as `cascade_clip_cli`: parse, call the library, print.

Its files import modules of the library (`from cascade_clip.training import run_training`), not names out of them: such
a module is executed when one of its names is first used, so that `--help` and a mistake in the options cost no import
of torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from cascade_clip_cli.deferred_imports import DeferringFinder, WrappedLoader


class _LazyModule(ModuleType):
    """A module that is executed when a name is looked up which it does not have yet.

    Python's own `importlib.util.LazyLoader` executes a module for its `__file__` too, which `inspect` asks of every
    module in the middle of other modules' imports.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        try:
            self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        except BaseException:
            self.__class__ = _LazyModule
            raise
        return getattr(self, name)


class _LazyLoader(WrappedLoader):
    def exec_module(self, module: ModuleType) -> None:
        self.give_back(module)
        module.__class__ = _LazyModule


class _LazyLibrary(MetaPathFinder):
    """Finds the modules of `cascade_clip`, packages aside, and puts off executing them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("cascade_clip."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        is_package = spec is not None and spec.submodule_search_locations is not None
        if spec is not None and spec.loader is not None and not is_package:
            spec.loader = _LazyLoader(spec.loader)
        return spec


sys.meta_path[:0] = [_LazyLibrary(), DeferringFinder()]
