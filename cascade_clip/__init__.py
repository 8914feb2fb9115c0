"""Cascade-CLIP: zero-shot semantic segmentation by cascaded vision-language embedding alignment (ICML 2024).

Three lines segment an image into classes named in words:

    from cascade_clip import CascadeCLIP
    model = CascadeCLIP.from_pretrained("runs/mine/model")
    segmentation = model.segment("street.jpg", classes=["road", "tree", "sky"])[0]
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_clip.inference.segmentation import Segmentation
    from cascade_clip.segmenter import CascadeCLIP

try:
    __version__ = version("cascade-clip")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

__all__ = ["CascadeCLIP", "Segmentation", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the public classes on first use: `import cascade_clip` alone must not cost an import of torch."""
    if name == "CascadeCLIP":
        from cascade_clip.segmenter import CascadeCLIP

        return CascadeCLIP
    if name == "Segmentation":
        from cascade_clip.inference.segmentation import Segmentation

        return Segmentation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
