"""The folder of an exported model: the network as one file, what segmentation needs beside it, and the check."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import cascade_clip
from cascade_clip.checkpoint.description import CONFIG
from cascade_clip.checkpoint.folder import CLIP, EXPORT, Checkpoint, read_description, write_description
from cascade_clip.errors import UserError, closest, counted, raise_refusal
from cascade_clip.export.exported_file import READERS, WRITERS, check_packages, trace
from cascade_clip.export.exported_text import TEXT_TOWER, TOKENIZER, has_text_files, write_text_files
from cascade_clip.files import json_text
from cascade_clip.inference.exported_network import RUNTIMES, ExportedNetwork, check_runtime
from cascade_clip.inference.sliding_window import MaskNetwork
from cascade_clip.model.clip.load import VOCABULARY_FILE
from cascade_clip.model.clip.text import templates_of
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.output_folder import FolderKind, check_output_folder, written_folder
from cascade_clip.segmenter import CascadeCLIP

FORMAT_VERSION = 1
EMBEDDINGS = "text_embeddings.npy"
CARD = "README.md"
TOLERANCE = 1e-4
"""Largest allowed difference of a mask logit, as a share of the largest one of its case."""
SEED = 0
EXPORT_FOLDER = FolderKind(
    "exported model",
    record=EXPORT,
    keys=frozenset({"format_version", "tool", "format", "file"}),
    files=(EXPORT, *(f"model.{name}*" for name in WRITERS), EMBEDDINGS, CONFIG, CLIP, VOCABULARY_FILE, CARD),
)


@dataclass(frozen=True)
class ExportedModel:
    """What `export_model` wrote; `record` is the content of `export.json`."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def difference(self) -> float:
        """Largest difference of a mask logit from PyTorch's, as a share of the largest of its case."""
        return float(max(result["difference"] for result in self.record["check"]["cases"]))


def export_model(model: CascadeCLIP, folder: Path, file_format: str = "onnx", *, text: bool = True) -> ExportedModel:
    """Write a model as one file that takes images and text embeddings, and check it against PyTorch.

    The folder holds `model.onnx` or `model.pt2`, `export.json`, a README, `config.json` with CLIP's weights where they
    cannot be had by name (they embed class names), and `text_embeddings.npy` (K, C) float32 of the model's own classes;
    as ONNX also `text.onnx` and `tokenizer.json`, with which any words are embedded without PyTorch.

    Args:
        model: A model on the CPU.
        folder: Where to write; an earlier export there is replaced as a whole.
        file_format: `onnx` or `pt2` (PyTorch's own, for `torch.export.load` and ahead-of-time compilation).
        text: Whether to write the text tower too, where it is a plain one of CLIP's kind.

    Raises UserError for an unknown format, missing packages, other files in the folder, a model that is training-free
    or not on the CPU, or a file that does not give what PyTorch gives; then nothing is written.
    """
    check_export(folder, file_format)
    if model.device.type != "cpu":
        raise UserError(
            f'A model is exported from the CPU, this one is on "{model.device}": load it with device="cpu".'
        )
    network = model.network
    if not isinstance(network, CascadeNetwork):
        kind = "exported already" if isinstance(network, ExportedNetwork) else "training-free"
        raise UserError(f'"{model.recipe.name}" is {kind}: export takes a trained checkpoint, or "bundled".')
    patch, joint = network.patch_size, int(model.clip.visual.proj.shape[1])
    side = -(-model.recipe.inference.crop // patch) * patch
    # pt2 keeps the grid that was traced, or CLIP's own grid would fail. SPT-SEG's filter and windows are computed for
    # the traced grid.
    any_size = file_format == "onnx" and network.encoder.spectral is None
    record = _record(model, file_format, None if any_size else side)
    if text and file_format == "onnx" and has_text_files(model.clip):
        record["text_file"], record["tokenizer"] = TEXT_TOWER, TOKENIZER
        record["templates"] = list(templates_of(model.recipe.text.templates))
    program = trace(network, joint, None if any_size else side)
    with written_folder(folder, EXPORT_FOLDER) as partial:
        file = partial / str(record["file"])
        WRITERS[file_format](program, file, _as_metadata(record))
        exported = READERS[file_format](file, patch)
        cases = agreement_cases(side, patch, any_size=any_size)
        results = compare_with_torch(network, exported, joint, cases)
        record["bytes"] = sum(part.stat().st_size for part in partial.iterdir())
        if "text_file" in record:
            write_text_files(model.clip, partial)
        record["check"] = {"tolerance": TOLERANCE, "cases": results}
        write_description(partial, Checkpoint(model.recipe, model.clip, {}, model.split, model.licence))
        if model.split is not None and model.clip.identity.has_text:
            embeddings = BytesIO()
            np.save(embeddings, model.text_embeddings_for(model.split).cpu().numpy())
            (partial / EMBEDDINGS).write_bytes(embeddings.getvalue())
        (partial / EXPORT).write_text(json_text(record), encoding="utf-8")
        (partial / CARD).write_text(_card(record), encoding="utf-8")
    return ExportedModel(folder, record)


def load_exported(
    folder: str | Path, *, runtime: str = "onnx", device: str = "auto", precision: str = "fp32"
) -> CascadeCLIP:
    """Load a model that `export_model` wrote as ONNX.

    `runtime` computes it: `onnx` (onnxruntime; `device` may be `cuda`) or `openvino` (`precision` may be `bf16`, on
    processors that have it). UserError for no ONNX export, a damaged one, or what cannot be had here.
    """
    place = Path(folder).expanduser()
    check_runtime(runtime, precision)
    record = _read_record(place)
    chosen = RUNTIMES[runtime].device(device)
    description = read_description(place)
    file, patch = place / str(record["file"]), int(record["patch_size"])
    network = ExportedNetwork(file, patch, chosen, runtime=runtime, precision=precision)
    parts = (network, description.clip, description.recipe, description.split)
    return CascadeCLIP(*parts, licence=description.licence, device=str(chosen), precision=precision)


def check_export(folder: Path, file_format: str, inputs: Iterable[Path] = ()) -> None:
    """Check what can be checked before a model is loaded: format, packages, a folder that holds none of `inputs`."""
    if file_format not in WRITERS:
        raise UserError(f'"{file_format}" is no format of export.{closest(file_format, list(WRITERS))}')
    if file_format == "onnx":
        check_packages()
    check_output_folder(folder, EXPORT_FOLDER, inputs=inputs)


def _record(model: CascadeCLIP, file_format: str, side: int | None) -> dict[str, Any]:
    """Facts of the model, for the file's own metadata and, with the check, for `export.json`."""
    recipe, split = model.recipe, model.split
    size = f"{side}, {side}" if side is not None else "H, W"
    return {
        "format_version": FORMAT_VERSION,
        "tool": f"cascade-clip {cascade_clip.__version__}",
        "torch": torch.__version__,
        "format": file_format,
        "file": f"model.{file_format}",
        "model": recipe.name,
        "licence": model.licence,
        "image": f"(B, 3, {size}) float32: RGB on 0..255, minus mean, divided by std",
        "text": f"(K, {model.clip.visual.proj.shape[1]}) float32: text embeddings, unit vectors",
        "mask_logits": "(B, K, h, w) float32: one value a class and patch, unbounded",
        "image_side": side,
        "patch_size": model.network.patch_size,
        "mean": list(recipe.data.mean),
        "std": list(recipe.data.std),
        "short_side": recipe.data.short_side,
        "inference": recipe.inference.model_dump(mode="json"),
        "clip": model.clip.identity.architecture,
        "clip_sha256": model.clip.identity.sha256,
        "classes": list(split.class_names) if split is not None else [],
        "unseen": sorted(split.unseen) if split is not None else [],
    }


def _as_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in record.items()
    }


def _card(record: Mapping[str, Any]) -> str:
    template = (resources.files("cascade_clip") / "export" / "exported_card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    worst = max(result["difference"] for result in record["check"]["cases"])
    return environment.from_string(template).render(**record, worst=worst)


def _read_record(folder: Path) -> dict[str, Any]:
    if not (folder / EXPORT).is_file():
        hint = f' Did you mean its folder, "{folder.parent}"?' if (folder.parent / EXPORT).is_file() else ""
        raise UserError(
            f'"{folder}" is no exported model: write one with `cascade-clip export CKPT --format onnx --output DIR`.'
            + hint
        )
    try:
        record = dict(json.loads((folder / EXPORT).read_text(encoding="utf-8")))
        version, file_format, _ = int(record["format_version"]), str(record["format"]), int(record["patch_size"])
        present = (folder / str(record["file"])).is_file()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_refusal(error, f'"{folder / EXPORT}"')
        raise UserError(f'"{folder / EXPORT}" is damaged: export the model again.') from error
    if version > FORMAT_VERSION:
        raise UserError(
            f'"{folder}" was exported by {record.get("tool", "a newer version")}: update with `pip install --upgrade'
            " cascade-clip`, or export the model again."
        )
    if file_format != "onnx":
        raise UserError(f'"{folder}" was exported as {file_format}: a runtime needs --format onnx.')
    if not present:
        raise UserError(f'"{folder}" holds no {record["file"]}: copy the folder again.')
    return record


class Case(NamedTuple):
    """The sizes of one input: B images of height x width pixels, and K text embeddings."""

    images: int
    classes: int
    height: int
    width: int


def agreement_cases(side: int, patch_size: int, *, any_size: bool) -> tuple[Case, ...]:
    """Inputs with various numbers of images and classes and, where the file takes any size, heights and widths."""
    other = (side + patch_size, 2 * patch_size) if any_size else (side, side)
    return Case(1, 1, side, side), Case(3, 7, side, side), Case(2, 171, *other), Case(1, 2, *reversed(other))


def compare_with_torch(
    network: MaskNetwork, exported: Callable[[Tensor, Tensor], Tensor], joint: int, cases: Sequence[Case]
) -> list[dict[str, Any]]:
    """Compare a network on the CPU with its export on random images and text embeddings of dimension `joint`.

    Of each case: the largest difference of a mask logit as a share of the largest |mask logit| of PyTorch, this one,
    and the share of patches whose best class is the same. UserError where a difference is above `TOLERANCE`, or NaN.
    """
    generator = torch.Generator().manual_seed(SEED)
    results = []
    for case in cases:
        image = torch.randn(case.images, 3, case.height, case.width, generator=generator)
        text = F.normalize(torch.randn(case.classes, joint, generator=generator), dim=-1)
        with torch.no_grad():
            expected, given = network(image, text), exported(image, text)
        largest = expected.abs().max().item()
        difference = (given - expected).abs().max().item() / max(largest, torch.finfo(torch.float32).tiny)
        equal = (given.argmax(dim=1) == expected.argmax(dim=1)).float().mean().item()
        # Not `>`: a NaN must fail too.
        if not difference <= TOLERANCE:
            raise UserError(
                f"The exported model does not give what PyTorch gives: with"
                f" {counted(case.images, 'image')} of {case.height} x {case.width} pixels and"
                f" {counted(case.classes, 'class')} mask logits differ by {difference:.1e} of the"
                f" largest ({TOLERANCE:.0e} is allowed), so nothing was written. Try the other --format or another"
                " version of torch and onnxruntime."
            )
        results.append({"case": case._asdict(), "difference": difference, "largest": largest, "equal_labels": equal})
    return results
