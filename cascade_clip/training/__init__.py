"""Training, inductive and self-training.

`run_training` holds the verb `train`; `start` checks a recipe and puts the parts together; `loop` runs the steps and
what is due between them; `step` is one optimiser step; `labelling` decides what it learns from.
"""
