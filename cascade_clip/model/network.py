"""From image to mask: start reading here.

The encoder is in `clip/image_encoder.py`, the stages in `head/cascade.py`; `build.py` puts both together from a recipe.
`inference/sliding_window.py` turns the mask logits of windows into the scores of an image.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import ImageEncoder, ImageFeatures
from cascade_clip.model.head.cascade import CascadeHead


class CascadeNetwork(nn.Module):
    """Image and text embeddings in, mask logits out.

    Axes: B images, K classes, C joint dimension, N = h·w patches.
    """

    def __init__(self, encoder: ImageEncoder, head: CascadeHead) -> None:
        """The encoder taps at least the blocks of the head's stages."""
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels; image sides are multiples of it."""
        return self.encoder.patch_size

    def encode(self, image: Tensor) -> ImageFeatures:
        """Encode an image (B, 3, H, W) once; `forward` decodes the result for any number of vocabularies."""
        return self.encoder(image)

    def forward(self, image: Tensor | ImageFeatures, text: Tensor) -> Tensor:
        """Mask logits (B, K, h, w), unbounded, on the grid of patches: the sum over the stages' decoders.

        Takes images (B, 3, H, W) float, normalised, or the result of `encode`, and text embeddings (K, C), unit
        vectors.
        """
        first, *others = self.stage_logits(image, text)
        return sum(others, start=first)

    def stage_logits(self, image: Tensor | ImageFeatures, text: Tensor) -> list[Tensor]:
        """Mask logits (B, K, h, w) of each decoder, its stages shallow to deep; in the cascade one a stage."""
        if isinstance(image, Tensor):
            text = text.to(image.dtype)
            image = self.encode(image)
        return [mask.unflatten(-1, image.grid) for mask in self.head(image, text)]

    def own_tensors(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint by name: all but CLIP's own, so prompts, norms, stage projections, head."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("encoder.visual.")}

    def load_own_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the result of `own_tensors`; raises UserError with all that are missing, unexpected or misshapen."""
        wanted = self.own_tensors()
        misshapen = [
            f"{name}: {tuple(tensors[name].shape)} given, {tuple(wanted[name].shape)} expected"
            for name in sorted(wanted.keys() & tensors.keys())
            if wanted[name].shape != tensors[name].shape
        ]
        missing, unexpected = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
        if missing or unexpected or misshapen:
            raise UserError(
                f"The tensors do not fit this architecture: {list_mismatches(missing, unexpected, misshapen)}."
            )
        # An empty network takes the tensors over; any other keeps its own, to which an optimiser may refer.
        empty = any(tensor.is_meta for tensor in wanted.values())
        self.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False, assign=empty)


class DecoderSums:
    """A cascade whose mask logits are sums over groups of its decoders instead of over all (the paper's Figure 6)."""

    def __init__(self, network: CascadeNetwork, groups: Sequence[Sequence[int]]) -> None:
        """Each group holds positions among the decoders, shallow to deep, at least one."""
        self.network = network
        self.patch_size = network.patch_size
        self.groups = [list(group) for group in groups]

    def encode(self, image: Tensor) -> ImageFeatures:
        """See `CascadeNetwork.encode`."""
        return self.network.encode(image)

    def __call__(self, image: Tensor | ImageFeatures, text: Tensor) -> Tensor:
        """Mask logits (B, G·K, h, w): K of each of G groups."""
        logits = torch.stack(self.network.stage_logits(image, text))
        return torch.cat([logits[group].sum(dim=0) for group in self.groups], dim=1)


def list_mismatches(missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[str]) -> str:
    """Put names into words: "2 missing (a, b); 1 unexpected (c)", at most ten names of a kind."""
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:10])}{', …' if len(names) > 10 else ''})"
        for kind, names in kinds.items()
        if names
    )
