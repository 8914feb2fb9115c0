"""From settings to the workload of their kind."""

from __future__ import annotations

from pathlib import Path

import torch

from cascade_clip.bench.predicting import EvalWorkload, PredictWorkload
from cascade_clip.bench.preparing import PrepareWorkload
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.training import TrainWorkload
from cascade_clip.bench.workload import Workload


def build_workload(settings: BenchSettings, folder: Path) -> Workload:
    """Build what is measured, with the threads that the settings ask for.

    Args:
        settings: What is asked for.
        folder: An empty folder for drawn images; it must outlive the workload.

    Raises:
        UserError: A model, size, device or precision that is not to be had.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.kind == "predict":
        return PredictWorkload(settings)
    if settings.kind == "eval":
        return EvalWorkload(settings, folder)
    if settings.kind == "train":
        return TrainWorkload(settings, folder)
    return PrepareWorkload(settings, folder)
