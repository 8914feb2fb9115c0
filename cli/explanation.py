"""`predict --explain`: what each stage sees of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade_clip.inference.segmentation import Segmentation
    from cascade_clip.report.palette import Colour
    from cascade_clip.segmenter import CascadeCLIP
    from cascade_clip_cli.vocabulary import Vocabulary

LARGEST_SHOWN = 4
"""So many classes are explained where none are named."""


class Explainer:
    """Draws the masks of the stages, image after image."""

    def __init__(self, segmenter: CascadeCLIP, model: str, vocabulary: Vocabulary, wanted: Sequence[str]) -> None:
        """Check what is asked for before the first image.

        Args:
            segmenter: The model.
            model: What the user calls it.
            vocabulary: What is looked for.
            wanted: Classes to explain; none: the largest that are found in each image.

        Raises:
            UserError: A model without stages, or a class that is not looked for.
        """
        from cascade_clip.analysis.stage_masks import network_with_stages
        from cascade_clip.errors import UserError, closest
        from cascade_clip_cli.vocabulary import spoken_names, text_embeddings

        self._network = network_with_stages(segmenter.network, model)
        self._segmenter = segmenter
        names = spoken_names(vocabulary)
        for name in wanted:
            if name not in names:
                raise UserError(f'"{name}" of --explain-classes is not looked for.{closest(name, names)}')
        self._wanted = [names.index(name) for name in wanted]
        self._text = text_embeddings(segmenter, vocabulary)

    def draw(self, image: NDArray[np.uint8], segmentation: Segmentation, colours: Sequence[Colour]) -> bytes | None:
        """Draw a PNG; none where no class is asked for and none was found."""
        from cascade_clip.analysis.stage_masks import stage_masks
        from cascade_clip.report.map_grids import ExplainedClass, render_stage_grid

        shown = self._wanted or [share.index for share in segmentation.summary()[:LARGEST_SHOWN]]
        if not shown:
            return None
        model = self._segmenter
        masks = stage_masks(
            self._network,
            image,
            self._text[shown],
            data=model.recipe.data,
            inference=model.recipe.inference,
            device=model.device,
            dtype=model.dtype,
        )
        classes = [ExplainedClass(segmentation.classes[i], colours[i], segmentation.labels == i) for i in shown]
        return render_stage_grid(image, classes, masks)
