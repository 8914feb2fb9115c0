"""Modules that are executed when they are first used: those of the library, and what open_clip imports needlessly."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

IMPORTERS = {"open_clip", "torchvision"}
DEFERRED = ("timm", "timm.layers", "torch._dynamo.utils")
"""timm's towers, and a question of torchvision's to the compiler, a second and a half that no command uses; of all of
them open_clip and torchvision take functions and classes only, which they call."""


class _StandIn(ModuleType):
    """Stands in for a module; its functions import the module when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

        def call(*arguments: Any, **options: Any) -> Any:
            function: Callable[..., Any] = getattr(import_module(self.__name__), name)
            return function(*arguments, **options)

        return call


@contextmanager
def deferred_imports() -> Iterator[None]:
    """Context in which the imports of `DEFERRED` modules that are not there yet give stand-ins."""
    stand_ins = {name: _StandIn(name) for name in DEFERRED if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


class _LazyModule(ModuleType):
    """A module that is executed when a name is looked up which it does not have yet.

    Python's own `importlib.util.LazyLoader` executes a module for its `__file__` too, which `inspect` asks of every
    module in the middle of other modules' imports.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader: Any = self.__spec__.loader  # type: ignore[union-attr]
        try:
            with _without_collection():
                type(loader).exec_module(loader, self)
        except BaseException:
            self.__class__ = _LazyModule
            raise
        return getattr(self, name)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Context in which garbage is not collected: imports make half a million objects that stay, and little garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class DeferringFinder(MetaPathFinder):
    """Puts off executing the modules of `cascade_clip`, and executes the packages of `IMPORTERS` with stand-ins.

    Where transformers is installed those have none: open_clip imports it, and it looks for timm itself and builds on
    its classes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        own = fullname.startswith("cascade_clip.")
        if not own and (fullname not in IMPORTERS or find_spec("transformers") is not None):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or (own and spec.submodule_search_locations is not None):
            return None
        # In place of the loader's own method: the loader itself is what importlib.resources, for one, asks.
        spec.loader.exec_module = _make_lazy if own else _execute_with_stand_ins  # type: ignore[method-assign, union-attr]
        return spec


def _make_lazy(module: ModuleType) -> None:
    module.__class__ = _LazyModule


def _execute_with_stand_ins(module: ModuleType) -> None:
    loader: Any = module.__spec__.loader  # type: ignore[union-attr]
    with deferred_imports():
        type(loader).exec_module(loader, module)
