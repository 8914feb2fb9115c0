"""What a run began with, as environment.json records it: versions, hardware, dataset, classes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cascade_clip import faster_linear
from cascade_clip.data.catalogue import Split
from cascade_clip.data.dataset_info import INFO_FILE, read_dataset_info

_PACKAGES = ("cascade-clip", "torch", "torchvision", "open_clip_torch", "accelerate", "numpy", "pillow", "safetensors")


def environment(dataset: Path, split: Split) -> dict[str, Any]:
    """The record of a run that begins now; `dataset` is the folder of a dataset."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: package_version(package) for package in _PACKAGES},
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "linear_layers": faster_linear.library(),
        "cuda_devices": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "git_commit": _git_commit(),
        "dataset": str(dataset),
        "dataset_sha256": _dataset_sha256(dataset),
        "dataset_content_sha256": _dataset_content_sha256(dataset),
        "split": split.name,
        "classes": _class_record(split),
    }


def has_dataset(record: Mapping[str, Any], dataset: Path) -> bool:
    """Whether a run began with this dataset; True where its record does not say."""
    key, now = "dataset_content_sha256", _dataset_content_sha256(dataset)
    # Runs of earlier versions recorded the whole file, the tool's version in it too.
    if key not in record:
        key, now = "dataset_sha256", _dataset_sha256(dataset)
    return record.get(key) in {None, now}


def has_split(record: Mapping[str, Any], split: Split) -> bool:
    """Whether a run began with these classes, the same of them unseen; True where its record does not say."""
    return record.get("split") in {None, split.name} and record.get("classes") in (None, _class_record(split))


def _dataset_sha256(dataset: Path) -> str:
    return hashlib.sha256((dataset / INFO_FILE).read_bytes()).hexdigest()


def _dataset_content_sha256(dataset: Path) -> str:
    content = read_dataset_info(dataset).model_dump(mode="json", include={"classes", "ignore", "sources", "parts"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _class_record(split: Split) -> dict[str, Any]:
    return {"names": list(split.class_names), "unseen": sorted(split.unseen)}


def package_version(package: str) -> str:
    """The version of an installed package; "not installed" of others, as this one run from its source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str | None:
    """Commit of the source tree this package runs from; None for an installed one."""
    command, here = ["git", "rev-parse", "HEAD"], Path(__file__).resolve().parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
