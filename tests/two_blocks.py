"""Models on a CLIP of two blocks, because tracing takes seconds a block."""

import json
from pathlib import Path

import torch

from cascade_clip import CascadeCLIP
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import load_clip

NAMES = ("red", "green", "blue")
SPLIT = Split("rgb", "rgb", tuple(ClassEntry(name, name, (9, 9, 9)) for name in NAMES), frozenset({"blue"}))


def two_block_model(recipe: Recipe, folder: Path, **changes: object) -> CascadeCLIP:
    """An untrained model with two stages whose norms, gates and biases are all off their start.

    Args:
        recipe: On the tiny CLIP, whose settings are taken but for the number of blocks.
        folder: Where CLIP's new settings are written.
        changes: Of the recipe's `model`.
    """
    settings = json.loads(Path(recipe.clip.architecture).read_text())
    settings["vision_cfg"]["layers"] = 2
    file = folder / "two-blocks.json"
    file.write_text(json.dumps(settings))
    clip = load_clip(str(file), "random:3")
    recipe = recipe.changed(model={"stages": ((1, 2), (2,)), "decoder": {"layers": 2}, **changes})
    torch.manual_seed(1)
    network = build_network(recipe.model, clip.visual)
    clips_own = {id(parameter) for parameter in clip.visual.parameters()}
    with torch.no_grad():
        for parameter in network.parameters():
            if id(parameter) not in clips_own:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return CascadeCLIP(network, clip, recipe, SPLIT)
