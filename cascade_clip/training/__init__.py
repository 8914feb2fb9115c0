"""Training, inductive and self-training.

`run_training` holds the verb `train`; `start` checks a recipe and puts the parts together; `loop` runs the steps and
what is due between them: `step` is one optimiser step and `labelling` what it learns from, `meter` measures them,
`validation` is what is scored and drawn. `run_folder` is where a run lies, and `state` what it is resumed from.
"""
