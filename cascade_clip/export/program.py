"""A network as one graph with open axes: what both file formats are written from."""

from __future__ import annotations

import torch
from torch.export import Dim, ExportedProgram

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.model.network import CascadeNetwork

IMAGE, TEXT, MASK_LOGITS = "image", "text", "mask_logits"
"""Names of the two inputs and the output in the exported file."""


def takes_any_size(network: CascadeNetwork) -> bool:
    """Whether the exporter can leave the size of images open without a change of the result.

    SPT-SEG's filter and windows are cut for the grid at hand, which its graph cannot do again at another size.
    """
    return network.encoder.spectral is None


def window_side(inference: InferenceConfig, patch_size: int) -> int:
    """Side of the windows that inference makes, filled up to a multiple of the patch size, in pixels."""
    return -(-inference.crop // patch_size) * patch_size


def trace(network: CascadeNetwork, joint: int, side: int | None) -> ExportedProgram:
    """Trace a network with any number of images and classes.

    Args:
        network: Image (B, 3, H, W) and text embeddings (K, C) to mask logits (B, K, h, w); on the CPU, evaluation mode.
        joint: C, dimension of the text embeddings.
        side: Height and width of every image in pixels; none: any multiples of the patch size.

    Returns:
        The graph in float32, B and K open, H and W too where `side` is none.
    """
    patch = network.patch_size
    image_axes: dict[int, Dim] = {0: Dim("batch", min=1)}
    # Numbers of an example must differ from each other and from one, or the tracer takes them for the same constant.
    example = torch.zeros(2, 3, side or 5 * patch, side or 7 * patch)
    if side is None:
        image_axes |= {2: patch * Dim("rows", min=1), 3: patch * Dim("columns", min=1)}
    # The strict tracer follows Python's len() of a tensor; the other one would take it for a constant.
    with torch.no_grad():
        program = torch.export.export(
            network,
            (example, torch.zeros(3, joint)),
            dynamic_shapes=(image_axes, {0: Dim("classes", min=1)}),
            strict=True,
        )
    # They would be written into the file, with the paths of the machine at hand.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
