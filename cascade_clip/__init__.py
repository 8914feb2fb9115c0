"""Cascade-CLIP: zero-shot semantic segmentation by cascaded vision-language embedding alignment (ICML 2024).

Three lines segment an image into classes named in words:

    from cascade_clip import CascadeCLIP
    model = CascadeCLIP.from_pretrained("runs/mine/model")
    segmentation = model.segment("street.jpg", classes=["road", "tree", "sky"])[0]
"""

import importlib.metadata as _metadata
import pkgutil as _pkgutil
import typing as _typing

if _typing.TYPE_CHECKING:
    from cascade_clip.config.recipes import load_recipe as load_recipe
    from cascade_clip.data.catalogue import get_split as get_split
    from cascade_clip.errors import UserError as UserError
    from cascade_clip.evaluation.evaluate import evaluate as evaluate
    from cascade_clip.inference.segmentation import Segmentation as Segmentation
    from cascade_clip.segmenter import CascadeCLIP as CascadeCLIP

try:
    __version__ = _metadata.version("cascade-clip")
except _metadata.PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

_PUBLIC = {
    "CascadeCLIP": "cascade_clip.segmenter:CascadeCLIP",
    "Segmentation": "cascade_clip.inference.segmentation:Segmentation",
    "UserError": "cascade_clip.errors:UserError",
    "evaluate": "cascade_clip.evaluation.evaluate:evaluate",
    "get_split": "cascade_clip.data.catalogue:get_split",
    "load_recipe": "cascade_clip.config.recipes:load_recipe",
    "train": "cascade_clip.training.run:train",
}
"""Imported on first use: `import cascade_clip` alone must not cost an import of torch."""

__all__ = [*_PUBLIC]  # noqa: PLE0604  (names are strings)


def __getattr__(name: str) -> _typing.Any:
    if name in _PUBLIC:
        return _pkgutil.resolve_name(_PUBLIC[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_PUBLIC, *(name for name in globals() if name.startswith("__"))]
