"""What a frozen encoder makes of crops that come again, kept on the disk: each crop passes through it once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from cascade_clip.data.samples import TrainSample, TrainSamples, View, batches_of
from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import ImageEncoder, ImageFeatures
from cascade_clip.runtime import DTYPES, products_in, to_device

logger = logging.getLogger(__name__)
GIBIBYTE = 2**30
_ACCELERATE_DTYPES = {"no": torch.float32, "bf16": DTYPES["bf16"], "fp16": DTYPES["fp16"]}
_BLOCK = "block."
_TOLD = 10


class FeatureCache:
    """One safetensors file a crop: patch tokens of every tapped block, class token, label and extent."""

    def __init__(self, folder: Path, samples: TrainSamples) -> None:
        """Name the folder, which is made when something is kept, and the samples whose crops come again."""
        self.folder = folder
        self.samples = samples

    def file(self, view: View) -> Path:
        """Where a crop's features lie."""
        return self.folder / f"{view.image:08d}-{view.number}.safetensors"

    def missing(self, positions: Iterable[int]) -> list[int]:
        """Positions of crops that are not kept yet, one for each crop, in order."""
        first = {self._view(position): position for position in reversed(list(positions))}
        return sorted(position for view, position in first.items() if not self.file(view).exists())

    def keep(self, position: int, sample: TrainSample, dtype: torch.dtype) -> None:
        """Write a crop's features; an interrupted write leaves nothing that counts.

        Args:
            position: Where the crop stands in the endless sequence of samples.
            sample: Its features (B = 1), label, extent and name.
            dtype: Number format they are kept in.
        """
        features = sample["image"]
        if not isinstance(features, ImageFeatures):
            raise TypeError("features are kept, not images")
        tensors = {f"{_BLOCK}{block}": tokens[0].to(dtype) for block, tokens in features.patch_tokens.items()}
        tensors |= {"class": features.class_token[0].to(dtype), "label": sample["label"], "extent": sample["extent"]}
        on_host = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        height, width = features.grid
        facts = {"id": sample["id"], "height": str(height), "width": str(width)}
        file = self.file(self._view(position))
        partial = file.with_suffix(".part")
        save_file(on_host, partial, metadata=facts)
        partial.replace(file)

    def read(self, position: int) -> TrainSample:
        """The sample of a position, features (B = 1, float32) in place of the image.

        Raises:
            UserError: The file is damaged or gone.
        """
        file = self.file(self._view(position))
        try:
            with safe_open(file, framework="pt") as opened:
                tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                facts = opened.metadata()
        except (OSError, SafetensorError) as error:
            raise UserError(
                f'The kept features in "{file}" cannot be read ({error}): delete "{self.folder}" and continue the run'
                " with --resume, which makes them again."
            ) from error
        features = ImageFeatures(
            {int(name.removeprefix(_BLOCK)): t.float()[None] for name, t in tensors.items() if name.startswith(_BLOCK)},
            tensors["class"].float()[None],
            (int(facts["height"]), int(facts["width"])),
        )
        return {"image": features, "label": tensors["label"], "extent": tensors["extent"], "id": facts["id"]}

    def _view(self, position: int) -> View:
        view = self.samples.view_at(position)
        if view is None:
            raise ValueError("features are kept of crops that come again, and data.views is unset")
        return view


class CachedSamples(Dataset[TrainSample]):
    """The sequence of training samples as `TrainSamples` has it, with kept features in place of images."""

    def __init__(self, cache: FeatureCache) -> None:
        """Read from a cache that holds every crop that will be asked for."""
        self.cache = cache
        self.dataset = cache.samples.dataset

    def __len__(self) -> int:
        """Images of an epoch; positions go on beyond it."""
        return len(self.cache.samples)

    def __getitem__(self, position: int) -> TrainSample:
        """Make the sample of a position, see `FeatureCache.read`."""
        return self.cache.read(position)


def collate_features(samples: Sequence[TrainSample]) -> TrainSample:
    """Put samples of kept features together, as the loader does with images: every value gains a leading B."""
    features = [sample["image"] for sample in samples if isinstance(sample["image"], ImageFeatures)]
    blocks, grid = features[0].patch_tokens, features[0].grid
    rest: TrainSample = default_collate([{k: v for k, v in sample.items() if k != "image"} for sample in samples])
    rest["image"] = ImageFeatures(
        {block: torch.cat([of_crop.patch_tokens[block] for of_crop in features]) for block in blocks},
        torch.cat([of_crop.class_token for of_crop in features]),
        grid,
    )
    return rest


def fill_cache(
    cache: FeatureCache, encoder: ImageEncoder, positions: range, accelerator: Accelerator, *, batch: int, workers: int
) -> None:
    """Run every crop that will be asked for through the encoder, unless it has been; processes share the work.

    Args:
        cache: Takes the features.
        encoder: The encoder, in which nothing trains.
        positions: What training will ask for.
        accelerator: Device, processes, precision.
        batch: Images at once.
        workers: Processes that read and augment images.

    Raises:
        UserError: The features do not fit the disk, damaged data.
    """
    missing = cache.missing(positions)
    if missing:
        dtype = _ACCELERATE_DTYPES[accelerator.mixed_precision]
        cache.folder.mkdir(parents=True, exist_ok=True)
        _check_room(cache, len(missing), encoder, dtype)
        # No process writes while another still looks at what is missing, or how much room there is.
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            logger.info('Encoding %d crops once; their features are kept in "%s".', len(missing), cache.folder)
        mine = missing[accelerator.process_index :: accelerator.num_processes]
        _encode(cache, encoder, mine, accelerator, dtype, batch=batch, workers=workers)
    accelerator.wait_for_everyone()


@torch.no_grad()
def _encode(
    cache: FeatureCache,
    encoder: ImageEncoder,
    positions: list[int],
    accelerator: Accelerator,
    dtype: torch.dtype,
    *,
    batch: int,
    workers: int,
) -> None:
    groups = [positions[start : start + batch] for start in range(0, len(positions), batch)]
    told = max(1, len(groups) // _TOLD)
    loader = batches_of(cache.samples, groups, workers=workers)
    for number, (group, micro) in enumerate(zip(groups, loader, strict=True), start=1):
        with products_in(dtype, accelerator.device):
            features: ImageFeatures = encoder(to_device(micro["image"], accelerator.device))
        for place, position in enumerate(group):
            sample: TrainSample = {
                "image": features.of_image(place),
                "label": micro["label"][place],
                "extent": micro["extent"][place],
                "id": micro["id"][place],
            }
            cache.keep(position, sample, dtype)
        if accelerator.is_main_process and number % told == 0:
            logger.info("Encoded %d %% of the crops.", 100 * number // len(groups))


def _check_room(cache: FeatureCache, crops: int, encoder: ImageEncoder, dtype: torch.dtype) -> None:
    config = cache.samples.transform.config
    patches, joint = (config.crop // encoder.patch_size) ** 2, encoder.visual.proj.shape[1]
    needed = crops * (len(encoder.taps) * patches * joint * dtype.itemsize + config.crop**2)
    free = shutil.disk_usage(cache.folder).free
    if needed > free:
        raise UserError(
            f'The features of {crops} crops take {needed / GIBIBYTE:.1f} GiB, and "{cache.folder}" has'
            f" {free / GIBIBYTE:.1f} GiB left: use fewer data.views, --precision bf16 or another --output, or leave"
            " train.cache_features out."
        )
