"""Modules that are executed when they are first used: those of the library, and what open_clip imports needlessly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

IMPORTERS = {"open_clip", "torchvision"}
DEFERRED = ("timm", "timm.layers", "torch._dynamo.utils")
"""timm's towers, and a question of torchvision's to the compiler, a second and a half that no command uses; of all of
them open_clip and torchvision take functions and classes only, which they call."""


class _Deferred(ModuleType):
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
    stand_ins = {name: _Deferred(name) for name in DEFERRED if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


class DeferringFinder(MetaPathFinder):
    """Finds the packages of `IMPORTERS` and executes them within `deferred_imports`.

    Where transformers is installed nothing is deferred: open_clip imports it, and it looks for timm itself and builds
    on its classes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname not in IMPORTERS or find_spec("transformers") is not None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader)
        return spec


class _WrappedLoader(Loader):
    """Makes modules as another loader does, and executes them its own way."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `importlib.abc.Loader`."""
        return self.loader.create_module(spec)

    def give_back(self, module: ModuleType) -> None:
        """Show the other loader from now on: importlib.resources, for one, asks it."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.loader


class _DeferringLoader(_WrappedLoader):
    def exec_module(self, module: ModuleType) -> None:
        self.give_back(module)
        with deferred_imports():
            self.loader.exec_module(module)


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


class _LazyLoader(_WrappedLoader):
    def exec_module(self, module: ModuleType) -> None:
        self.give_back(module)
        module.__class__ = _LazyModule


class LazyLibrary(MetaPathFinder):
    """Finds the modules of `cascade_clip`, packages aside, and puts off executing them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not fullname.startswith("cascade_clip."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        is_package = spec is not None and spec.submodule_search_locations is not None
        if spec is not None and spec.loader is not None and not is_package:
            spec.loader = _LazyLoader(spec.loader)
        return spec
