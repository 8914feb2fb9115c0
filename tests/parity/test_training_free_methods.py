"""Training-free methods against the released codes (training_free/SPEC sections 1 and 2), one test a golden tensor.

Nothing of the golden CLIP is wired in: its width, depth, patch, grids and vocabulary come from the folder.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.model.clip.image_encoder import resize_positions
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.gem import gem
from cascade_clip.model.last_block import LastBlock, gaussian_bias, patch_cosines
from cascade_clip.model.mask_clip import projected_keys, refined_scores
from cascade_clip.model.res_clip import ResClip, feedback_attention, patch_classes
from cascade_clip.model.sc_clip import lof_scores, outlier_mask
from cascade_clip.model.training_free import METHODS, Method, key_key_nearby, query_query, query_query_and_key_key

FILES = (*("clip", "maskclip", "sclip", "clearclip", "naclip", "scclip", "gem", "resclip"), *("ablations", "gaussian"))
"""Files of golden tensors; each tensor is a test."""
BASES = {"resclip": "naclip", "clearclip": "clearclip", "sclip": "sclip"}
"""ResCLIP's `strategy` -> ours."""


@dataclass
class Folder:
    """A folder of golden tensors with its CLIP."""

    path: Path
    inputs: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.visual = load_clip(f"local-dir:{self.path / 'tiny_clip'}").visual
        self.inputs = load_file(self.path / "inputs.safetensors")
        self.text = self.inputs["text_embeddings"]
        self.tensors = cache(lambda name: load_file(self.path / f"{name}.safetensors"))
        self.settings = cache(lambda name: json.loads((self.path / f"{name}.json").read_text()))
        self.network = cache(lambda method: DenseNetwork(self.visual, method).eval())
        self.block = cache(self._block)

    def image(self, case: str) -> Tensor:
        if f"{case}.image" in self.inputs:
            return self.inputs[f"{case}.image"]
        return self.tensors("ablations")[f"{case}.image"]

    def _block(self, method: Method, case: str) -> LastBlock:
        return self.network(method).last_block(self.image(case))


@pytest.fixture(scope="session")
def folder(training_free: Path) -> Folder:
    return Folder(training_free)


def attention_weights(block: LastBlock, values: Callable[[LastBlock], Tensor]) -> Tensor:
    """Weights (T, T) of image 0, head 0: what is mixed where values are unit vectors."""
    unit = torch.eye(block.tokens.shape[1]).expand(*block.heads.value.shape[:2], -1, -1)
    unmixed = replace(block)
    vars(unmixed)["heads"] = block.heads._replace(value=unit)
    return values(unmixed)[0, 0]


def of_clip(folder: Folder, case: str, what: str) -> Tensor:
    block = folder.block(METHODS["clip"], case)
    if what == "embedding":
        return block.project(block.blocks[-1](block.tokens)[:, 0])
    if what == "last_block_input":
        return block.tokens
    return of_method(folder, METHODS["clip"], case, what.removeprefix("patch_"))


def of_method(folder: Folder, method: Method, case: str, what: str) -> Tensor:
    block = folder.block(method, case)
    if what == "positions":
        table = block.visual.positional_embedding
        return resize_positions(table, tuple(block.visual.grid_size), block.grid, method.positions)
    if what == "before_ln_post":
        return method.patch_tokens(block)
    if what in {"after_ln_post", "value_after_norm"}:
        return block.visual.ln_post(method.patch_tokens(block))
    features = block.project(method.patch_tokens(block))
    if what == "features_unit":
        return F.normalize(features, dim=-1)
    return folder.network(method).cosines(folder.image(case), folder.text) if what == "logits" else features


def of_maskclip(folder: Folder, variant: str, case: str, what: str) -> Tensor:
    method = METHODS["maskclip" if variant == "released" else "maskclip_quickgelu"]
    block = folder.block(method, case)
    if what == "keys":
        return projected_keys(block)
    if kind := what.removeprefix("refined.") if what.startswith("refined.") else None:
        smoothing, denoising = folder.settings("maskclip")["refinements"][kind]
        cosines = of_method(folder, method, case, "logits")
        return refined_scores(block, cosines, key_smoothing=smoothing, prompt_denoising=denoising)
    ours = of_method(folder, method, case, what)
    return ours.transpose(1, 2).unflatten(2, block.grid) if what in {"features", "value_after_norm"} else ours


def of_scclip(folder: Folder, case: str, what: str) -> Tensor:
    scores = lof_scores(folder.block(METHODS["scclip"], case).tokens[:, 1:])
    found = {"lof_scores": scores, "outlier_mask": outlier_mask(scores)}
    return found[what] if what in found else of_method(folder, METHODS["scclip"], case, what)


def of_gem(folder: Folder, case: str, what: str) -> Tensor:
    if what == "minmax_every4":
        # The published code's own maps, each stretched to [0, 1]; the toolkit compares the cosines themselves.
        logits = of_method(folder, METHODS["gem"], case, "logits")
        maps = F.interpolate(logits, size=folder.image(case).shape[-2:], mode="bilinear", align_corners=False)
        lowest, highest = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
        return ((maps - lowest) / (highest - lowest))[:1, :, ::4, ::4]
    if options := re.fullmatch(r"features\.depth(\d+)_iter(\d+)_temp([\d.]+)", what):
        depth, iterations, temperature = options.groups()
        block = folder.block(METHODS["gem"], case)
        return block.project(gem(block, int(depth), int(iterations), float(temperature)))
    return of_method(folder, METHODS["gem"], case, what)


def of_resclip(folder: Folder, name: str, case: str, what: str) -> Tensor:
    given = folder.settings("resclip")["settings"][name]
    sharpness, feedback_share = given["sfr_tau_lambda"]
    resclip = ResClip(
        BASES[given["strategy"]],
        least_score=given["temp_thd"],
        sharpness=sharpness,
        feedback_share=feedback_share,
        residual_share=given["rcs_tau_lambda"][1],
        check_paths=given["delete_same_entity"],
    )
    method = METHODS["resclip"]
    block = folder.block(method, case)
    patch_tokens = resclip.first_pass(block)
    cosines = patch_cosines(block.project(patch_tokens), folder.text, block.grid)
    classes = patch_classes(block, cosines, resclip.least_score)
    if what == "patch_classes":
        return classes
    if what == "feedback_attention.image0":
        return feedback_attention(classes[0], check_paths=resclip.check_paths)
    if name != "rcs_only":
        patch_tokens = resclip.second_pass(block, cosines)
        cosines = resclip.scores(block, cosines, folder.text)
    return cosines if what == "logits" else block.project(patch_tokens)


def of_gaussian(key: str) -> Tensor:
    kind, height, width, sigma, rows = re.fullmatch(r"(\w+)\.(\d+)x(\d+)\.std(\d+)(?:\.rows_(\w+))?", key).groups()
    grid = int(height), int(width)
    if kind == "window":
        wide = 2 * grid[0] - 1, 2 * grid[1] - 1
        return gaussian_bias(wide, float(sigma))[1 + math.prod(wide) // 2, 1:].unflatten(0, wide)
    bias = gaussian_bias(grid, float(sigma))
    return bias[[int(row) for row in rows.split("_")]] if rows else bias


def ours(folder: Folder, file: str, key: str) -> Tensor:
    """Our tensor under the golden one's file and name."""
    name, _, rest = key.partition(".")
    case, _, what = rest.partition(".")
    if key == "attention_weights.image0_head0":
        values = {"sclip": query_query_and_key_key, "clearclip": query_query, "naclip": key_key_nearby}[file]
        return attention_weights(folder.block(METHODS[file], "wide"), values)
    if key == "naclip_equal_count.features":
        return of_method(folder, METHODS["naclip"], "naclip_equal_count", "features")
    special = {"clip": of_clip, "scclip": of_scclip, "gem": of_gem}
    if file in special:
        return special[file](folder, name, rest)
    if file == "gaussian":
        return of_gaussian(key)
    if file in {"maskclip", "resclip"}:
        return {"maskclip": of_maskclip, "resclip": of_resclip}[file](folder, name, case, what)
    if file == "ablations":
        # Of one ablation there is image 0 alone.
        return of_method(folder, METHODS[name], case, what)[: len(folder.tensors(file)[key])]
    return of_method(folder, METHODS[file], name, rest)


def tolerance(file: str, key: str) -> tuple[float, float]:
    """Absolute tolerance, and the one relative to the tensor's largest value."""
    if file == "gaussian" or key.endswith("positions") or "feedback_attention" in key:
        return 1e-6, 0
    if ".refined." in key:
        return 2e-5, 5e-6
    if any(part in key for part in ("logits", "minmax", "features_unit")):
        return 5e-6, 0
    return 0, 1e-5 if file == "resclip" else 5e-6


@torch.no_grad()
def test_tensor_is_that_of_the_released_code(folder: Folder, file: str, key: str):
    golden, own = folder.tensors(file)[key], ours(folder, file, key)
    assert own.shape == golden.shape
    if key.endswith(("outlier_mask", "patch_classes")):
        assert torch.equal(own.long(), golden.long())
        return
    difference = (own - golden).abs()
    if ".refined.ks100" in key:
        # Whether a patch keeps its own probability depends on the last bit of one that is nearly 1.
        cosines = folder.tensors(file)[key[: key.index("refined.")] + "logits"]
        difference *= (100 * cosines).softmax(dim=1).amax(dim=1, keepdim=True) <= 1 - 3e-6
    absolute, relative = tolerance(file, key)
    if ".refined." in key:
        assert bool((difference <= absolute + relative * golden.abs()).all())
    else:
        assert float(difference.max()) <= absolute + relative * float(golden.abs().max())


def test_the_committed_selection_has_every_file():
    committed = Path(__file__).parent.parent / "golden" / "training_free"
    assert [file for file in FILES if not (committed / f"{file}.safetensors").is_file()] == []
    assert sum(file.stat().st_size for file in committed.rglob("*") if file.is_file()) < 3e6
