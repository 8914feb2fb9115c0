"""A traced network as an ONNX file."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from cascade_clip.errors import UserError
from cascade_clip.export.program import IMAGE, MASK_LOGITS, TEXT

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages() -> None:
    """Check that what writes ONNX files is installed.

    Raises:
        UserError: It is not.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(
            f"The ONNX format needs {' and '.join(missing)}: install the extra with `pip install 'cascade-clip[onnx]'`,"
            " or use --format pt2."
        )


def write_onnx(program: ExportedProgram, file: Path, metadata: Mapping[str, str]) -> None:
    """Write a traced network; above 2 GB the weights lie in a second file beside it, as ONNX has it.

    Args:
        program: What `trace` gave.
        file: Where to write.
        metadata: Names and texts that the file carries.
    """
    if _attends_beyond_four_axes(program):
        program = program.run_decompositions({torch.ops.aten.scaled_dot_product_attention.default: _attention})
    with _without_folding_warnings():
        exported = torch.onnx.export(
            program, (), input_names=[IMAGE, TEXT], output_names=[MASK_LOGITS], dynamo=True, verbose=False
        )
    if exported is None:
        raise AssertionError("torch.onnx.export gives a program when it is given no file")
    _name_axes(exported.model.graph)
    # What the exporter notes of each node names files and lines of the machine at hand.
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()
    exported.model.metadata_props.update(metadata)
    exported.save(file)


def _attends_beyond_four_axes(program: ExportedProgram) -> bool:
    """Whether any attention has other axes than (batch, heads, tokens, channels), the only ones the exporter writes.

    Asked because writing attention in its parts beforehand takes as long as all of the exporter's own work.
    """
    attention = torch.ops.aten.scaled_dot_product_attention.default
    queries = (node.args[0] for node in program.graph.nodes if node.target is attention)
    return any(query.meta["val"].dim() != 4 for query in queries)


def _name_axes(graph: Any) -> None:
    """Call the open axes what they are ("batch", "8*rows"); the tracer numbers them ("s6", "8*s30")."""
    image, text = graph.inputs
    rows, columns = graph.outputs[0].shape[2:]
    names = {"batch": image.shape[0], "classes": text.shape[0], "rows": rows, "columns": columns}
    by_number = {axis.value: name for name, axis in names.items() if not isinstance(axis, int)}
    values = [*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)]
    for shape in (value.shape for value in values if value.shape is not None):
        for index, axis in enumerate(shape):
            if not isinstance(axis, int) and axis.value is not None:
                shape[index] = re.sub(r"\bs\d+\b", lambda found: by_number.get(found[0], found[0]), axis.value)


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
    """Attention of any rank in its parts. No tower or head masks or drops."""
    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("attention with a mask, dropout or grouped heads")
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    attended: Tensor = (scaled @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    return attended


@contextmanager
def _without_folding_warnings() -> Iterator[None]:
    """Silence the optimizer, which warns of every constant that it leaves to be computed at run time."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
