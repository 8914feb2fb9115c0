"""Continuing a run: which keys of its recipe may change then, and what a change leaves in its folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cascade_clip.config.recipes import change_recipe, changed_keys
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.state import CHANGEABLE, TrainState, saved_recipe

logger = logging.getLogger(__name__)


def recipe_to_continue(run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of the run in a folder, with other values for some keys in `CHANGEABLE`; nothing is written.

    `overrides` are `section.key=value` each.

    Raises:
        UserError: No run lies there, another key would change, or the run is longer already.
    """
    before = run.recipe()
    recipe = change_recipe(before, overrides)
    changed = changed_keys(before.model_dump(mode="json"), recipe.model_dump(mode="json"))
    if refused := [
        f"{key} is {old} and cannot become {new}" for key, (old, new) in changed.items() if key not in CHANGEABLE
    ]:
        raise UserError(
            f'The run in "{run.folder}" is continued with its own recipe: {"; ".join(refused[:3])}. With --resume only'
            f" {', '.join(CHANGEABLE)} may change; start a new run for other values."
        )
    if recipe.train.iterations < run.steps_kept:
        raise UserError(
            f'{run.steps_kept} steps of the run in "{run.folder}" are done, more than'
            f" train.iterations={recipe.train.iterations}: give at least {run.steps_kept}."
        )
    return recipe


def continue_run(run: RunFolder, recipe: Recipe, state: TrainState, *, is_main_process: bool) -> None:
    """Make the folder that of a run which goes on after `state.step` steps, and record what has changed.

    The changes are found by comparing with the state's recipe, so that they are recorded also where a process was
    killed before it could do so. The best score is forgotten where validation scores other images.
    """
    before = saved_recipe(run) or run.recipe().model_dump(mode="json")
    changed = changed_keys(before, recipe.model_dump(mode="json"))
    changed = {key: values for key, values in changed.items() if key in CHANGEABLE}
    if "train.validate_images" in changed:
        state.best = None
    if not is_main_process:
        return
    run.forget_after(state.step)
    if changed:
        run.record_changes(recipe, state.step, changed)
        listed = ", ".join(f"{key}={new} (was {old})" for key, (old, new) in changed.items())
        logger.info("The run goes on after step %d with %s.", state.step, listed)
    if state.step > recipe.train.iterations // 2 and "train.iterations" in changed:
        kept = "stays as it is" if run.half_way_model.exists() else "is not written"
        logger.warning("Step %d, half of the new length, is past: model-half %s.", recipe.train.iterations // 2, kept)
    if state.step == recipe.train.iterations:
        logger.info("All steps are done. To prolong the run: --resume --set train.iterations=%d", 2 * state.step)
