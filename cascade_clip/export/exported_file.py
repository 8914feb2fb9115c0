"""A network as one file: traced with open axes, and written and read as ONNX or as PyTorch's own pt2."""

import io
import json
import logging
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from cascade_clip.errors import UserError
from cascade_clip.inference.exported_network import ExportedNetwork
from cascade_clip.model.network import CascadeNetwork

IMAGE, TEXT, MASK_LOGITS = "image", "text", "mask_logits"
"""Names of the two inputs and the output in the exported file."""
METADATA = "export.json"
"""Where a pt2 file holds its metadata."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "tokenizers")


def check_packages() -> None:
    """Raise UserError where a package is missing that writes ONNX files."""
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise UserError(
            f"The ONNX format needs {' and '.join(missing)}: install the extra with `pip install 'cascade-clip[onnx]'`,"
            " or use --format pt2."
        )


def trace(network: CascadeNetwork, joint: int, side: int | None) -> ExportedProgram:
    """Trace a network on the CPU in evaluation mode with any number of images and classes, in float32.

    `joint` is C, the dimension of text embeddings (K, C); `side` is height and width of every image in pixels, None:
    any multiples of the patch size.
    """
    patch = network.patch_size
    image_axes: dict[int, Dim] = {0: Dim("batch", min=1)}
    # The example's sizes differ from each other and from 1: the tracer would take equal ones for the same constant.
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
    # The file would hold them, with paths of this machine.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write_onnx(program: ExportedProgram, file: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced network as ONNX with pairs `metadata`; above 2 GB its weights are in a second file beside it."""
    if _attends_beyond_four_axes(program):
        program = program.run_decompositions({torch.ops.aten.scaled_dot_product_attention.default: _attention})
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every constant that it does not fold
    exported = torch.onnx.export(
        program, (), input_names=[IMAGE, TEXT], output_names=[MASK_LOGITS], dynamo=True, verbose=False
    )
    if exported is None:
        raise AssertionError("torch.onnx.export gives a program when it is given no file")
    _name_axes(exported.model.graph)
    # Each node's metadata name files and lines of this machine.
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()
    _refuse_broken_patches(exported.model.graph, int(metadata["patch_size"]))
    exported.model.metadata_props.update(metadata)
    exported.save(file)


def write_pt2(program: ExportedProgram, file: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced network for `torch.export.load`; the arguments are those of `write_onnx`."""
    # PyTorch's own writer ends the whole process when the disk is full.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata, ensure_ascii=False)})
    with file.open("wb") as opened:
        opened.write(content.getbuffer())


WRITERS: dict[str, Callable[[ExportedProgram, Path, Mapping[str, str]], None]] = {"onnx": write_onnx, "pt2": write_pt2}
READERS: dict[str, Callable[[Path, int], Callable[[Tensor, Tensor], Tensor]]] = {
    "onnx": lambda file, patch_size: ExportedNetwork(file, patch_size, torch.device("cpu")),
    "pt2": lambda file, _: torch.export.load(file).module(),
}
"""Each reads a file as a function of image (B, 3, H, W) and text (K, C) that runs on the CPU."""


def _attends_beyond_four_axes(program: ExportedProgram) -> bool:
    """Whether any attention has other axes than (batch, heads, tokens, channels), which the exporter cannot write.

    Only then is attention decomposed: that takes as long as the whole export.
    """
    attention = torch.ops.aten.scaled_dot_product_attention.default
    queries = (node.args[0] for node in program.graph.nodes if node.target is attention)
    return any(query.meta["val"].dim() != 4 for query in queries)


def _name_axes(graph: Any) -> None:
    """Give the open axes names ("batch", "8*rows") in place of the tracer's numbers ("s6", "8*s30")."""
    image, text = graph.inputs
    rows, columns = graph.outputs[0].shape[2:]
    names = {"batch": image.shape[0], "classes": text.shape[0], "rows": rows, "columns": columns}
    by_number = {axis.value: name for name, axis in names.items() if not isinstance(axis, int)}
    values = [*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)]
    for shape in (value.shape for value in values if value.shape is not None):
        for index, axis in enumerate(shape):
            if not isinstance(axis, int) and axis.value is not None:
                shape[index] = re.sub(r"\bs\d+\b", lambda found: by_number.get(found[0], found[0]), axis.value)


def _refuse_broken_patches(graph: Any, patch: int) -> None:
    """Let the file fail on images whose sides are no multiples of the patch, which CLIP's convolution would cut off.

    The image is reshaped to its size in whole patches: no runtime can do that where a rest is left.
    """
    import onnx_ir

    image, first = graph.inputs[0], graph[0]
    tape = onnx_ir.tape.Tape()
    sides = tape.initializer(onnx_ir.tensor([1, 1, patch, patch], name="patch_sides"))
    rounded = tape.op("Mul", [tape.op("Div", [tape.op("Shape", [image]), sides]), sides])
    checked = tape.op("Reshape", [image, rounded])
    users = [(node, index) for node, index in image.uses() if node not in tape.nodes]
    for node, index in users:
        node.replace_input_with(index, checked)
    checked.shape, checked.type = image.shape, image.type
    graph.initializers[sides.name] = sides
    graph.insert_before(first, tape.nodes)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of any rank from matrix products and a softmax; no tower or head uses a mask or dropout."""
    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("attention with a mask, dropout or grouped heads")
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    return (scaled @ key.transpose(-2, -1)).softmax(dim=-1) @ value
