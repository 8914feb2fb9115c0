"""Cascade-CLIP: zero-shot semantic segmentation by cascaded vision-language embedding alignment (ICML 2024).

Three lines segment an image into classes named in words:

    from cascade_clip import CascadeCLIP
    model = CascadeCLIP.from_pretrained("runs/mine/model")
    segmentation = model.segment("street.jpg", classes=["road", "tree", "sky"])[0]
"""

from importlib.metadata import PackageNotFoundError, version
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_clip.config.recipes import load_recipe
    from cascade_clip.data.catalogue import get_split
    from cascade_clip.errors import UserError
    from cascade_clip.evaluation.evaluate import evaluate
    from cascade_clip.inference.segmentation import Segmentation
    from cascade_clip.segmenter import CascadeCLIP
    from cascade_clip.training.run_training import train

try:
    __version__ = version("cascade-clip")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

__all__ = ["CascadeCLIP", "Segmentation", "UserError", "evaluate", "get_split", "load_recipe", "train"]

_PUBLIC = {
    "CascadeCLIP": "cascade_clip.segmenter:CascadeCLIP",
    "Segmentation": "cascade_clip.inference.segmentation:Segmentation",
    "UserError": "cascade_clip.errors:UserError",
    "evaluate": "cascade_clip.evaluation.evaluate:evaluate",
    "get_split": "cascade_clip.data.catalogue:get_split",
    "load_recipe": "cascade_clip.config.recipes:load_recipe",
    "train": "cascade_clip.training.run_training:train",
}
"""Imported on first use: `import cascade_clip` alone must not cost an import of torch."""


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return resolve_name(_PUBLIC[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
