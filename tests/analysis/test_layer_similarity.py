import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascade_clip.analysis import layer_similarity
from cascade_clip.analysis.cka import linear_cka
from cascade_clip.analysis.layer_similarity import LayerSimilarity, ProcessGroup, SimilaritySettings, layer_similarities
from cascade_clip.analysis.layer_tokens import ImageSet, central_square, dataset_images, file_images
from cascade_clip.analysis.observed_model import (
    ObservedModel,
    block_tokens,
    encoder_of,
    observed_clip,
    observed_model,
    short_stage,
)
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import load_clip
from cascade_clip.segmenter import CascadeCLIP


def noise(count: int) -> ImageSet:
    def read(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (70, 90, 3), dtype=np.uint8)

    return ImageSet("noise", count, read)


@pytest.fixture(scope="module")
def trained(tiny_model: CascadeCLIP) -> ObservedModel:
    return observed_model(tiny_model, "run", "after")


@pytest.fixture(scope="module")
def before(tiny_model: CascadeCLIP) -> ObservedModel:
    return observed_clip(tiny_model, "CLIP", "before")


def test_all_patches_of_all_images_are_compared(tiny_model: CascadeCLIP, trained: ObservedModel):
    images = noise(5)
    (similarity,) = layer_similarities(trained, images, SimilaritySettings(patches=0, estimator="exact"))
    data = tiny_model.recipe.data
    pixels = np.stack([normalise(central_square(images.read(i), 64), data.mean, data.std) for i in range(5)])
    seen = block_tokens(encoder_of(tiny_model.network), torch.from_numpy(pixels))
    expected = linear_cka([layer.flatten(0, 1) for layer in seen.patch_tokens]).numpy()
    assert np.allclose(similarity.matrix, expected, atol=1e-5)
    assert (similarity.images, similarity.samples, similarity.estimator) == (5, 80, "exact")
    assert similarity.rows == similarity.columns == tuple(f"block {i}" for i in range(1, 5))
    assert (similarity.title, similarity.row_model, similarity.column_model) == ("after", "run", "run")


def test_before_stands_before_after_and_the_crossed_matrix_last(trained: ObservedModel, before: ObservedModel):
    settings = SimilaritySettings(tokens=("patch", "class"), estimator="unbiased", cross=True)
    found = layer_similarities(trained, noise(12), settings, other=before)
    assert [(s.tokens, s.row_model, s.column_model) for s in found] == [
        (tokens, *models)
        for tokens in ("patch", "class")
        for models in (("CLIP", "CLIP"), ("run", "run"), ("run", "CLIP"))
    ]
    assert found[2].title == "run (rows) with CLIP (columns)"
    assert not np.allclose(found[0].matrix, found[1].matrix, atol=1e-3)  # prompts change what blocks compute
    assert np.all(found[2].matrix.diagonal() < 0.9999)


def test_taps_and_stages_are_what_the_head_reads(
    tiny_model: CascadeCLIP, trained: ObservedModel, before: ObservedModel
):
    settings = SimilaritySettings(layers=("blocks", "taps", "stages"), estimator="exact")
    clip, own = layer_similarities(trained, noise(8), settings, other=before)
    assert clip.rows == ("block 1", "block 2", "block 3", "block 4")
    assert own.rows[4:] == ("tap 1", "tap 2", "tap 3", "tap 4", "stage 1-2", "stage 3", "stage 4")
    places = {name: i for i, name in enumerate(own.rows)}
    assert own.matrix[places["tap 4"], places["stage 4"]] == pytest.approx(1)  # a stage of one block merges nothing
    assert own.matrix[places["tap 1"], places["stage 1-2"]] < 0.999
    assert own.last_block == 3
    assert own.neighbours == ((1, 0), (2, 1), (3, 2))
    assert [short_stage(stage) for stage in ((6, 7, 8), (12,), (3, 6))] == ["6-8", "12", "3,6"]


@pytest.mark.parametrize("estimator", ["exact", "unbiased"])
def test_any_number_of_processes_gives_the_same_bits(trained: ObservedModel, before: ObservedModel, estimator: str):
    world = 3
    settings = SimilaritySettings(tokens=("patch", "class"), estimator=estimator, batch=4, cross=True)
    images = noise(18)
    alone = layer_similarities(trained, images, settings, other=before)
    barrier, given = threading.Barrier(world), [None] * world
    found: list[Any] = [None] * world

    def run(rank: int) -> None:
        def gather(own: object) -> list[Any]:
            given[rank] = own
            barrier.wait()
            everyone = list(given)
            barrier.wait()
            return everyone

        processes = ProcessGroup(rank, world, gather)
        found[rank] = layer_similarities(trained, images, settings, other=before, processes=processes)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(part) for part in found] == [len(alone)] + [0] * (world - 1)
    for ours, theirs in zip(found[0], alone, strict=True):
        assert np.array_equal(ours.matrix, theirs.matrix)


def test_streaming_agrees_with_the_exact_form(trained: ObservedModel):
    images = noise(64)
    exact, streamed = (
        layer_similarities(trained, images, SimilaritySettings(estimator=estimator, patches=16, batch=16))[0].matrix
        for estimator in ("exact", "unbiased")
    )
    # 1,024 tokens of 32 channels: the exact form is biased by about 32 / 1,024.
    assert np.abs(exact - streamed).max() < 0.06


def test_auto_is_exact_only_with_enough_samples_a_channel(trained: ObservedModel, monkeypatch):
    few = layer_similarities(trained, noise(8), SimilaritySettings())[0]
    many = layer_similarities(trained, noise(40), SimilaritySettings(tokens=("patch", "class")))
    assert [s.estimator for s in (few, *many)] == ["unbiased", "exact", "unbiased"]
    monkeypatch.setattr(layer_similarity, "EXACT_SAMPLES", 639)
    assert layer_similarities(trained, noise(40), SimilaritySettings())[0].estimator == "unbiased"


def test_models_with_other_patches_see_the_same_grid(
    trained: ObservedModel, tiny_clip_file: Path, tmp_path, tiny_recipe
):
    config = json.loads(tiny_clip_file.read_text())
    config["vision_cfg"] |= {"patch_size": 8, "image_size": 64}
    (tmp_path / "clip.json").write_text(json.dumps(config))
    clip = load_clip(str(tmp_path / "clip.json"), "random:5")
    fine = CascadeCLIP(build_network(tiny_recipe.model, clip.visual), clip, tiny_recipe)
    other = observed_model(fine, "fine", "fine")
    found = layer_similarities(trained, noise(9), SimilaritySettings(cross=True), other=other)
    assert found[2].samples == 9 * 16
    assert found[2].matrix.shape == (4, 4)


def test_drawn_patches_depend_on_the_seed_alone(trained: ObservedModel):
    first, again, other = (
        layer_similarities(trained, noise(8), SimilaritySettings(patches=5, seed=seed))[0].matrix for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-4)


GREY = ImageSet("grey", 6, lambda _: np.full((64, 64, 3), 99, np.uint8))


@pytest.mark.parametrize(
    ("model", "images", "settings", "message"),
    [
        ("before", noise(6), {"layers": ("taps",)}, '"CLIP" has no taps of patch tokens: CLIP as it is and the class'),
        ("trained", noise(6), {"layers": ("stages",), "tokens": ("class",)}, '"run" has no stages of class tokens'),
        ("trained", noise(3), {"tokens": ("class",)}, "From 3 class tokens of 3 images no similarity can"),
        (
            "trained",
            noise(6),
            {"side": 4096},
            "has 65,536 patches, too many to compare each with each: use at most --size",
        ),
        ("trained", noise(6), {"side": 10}, "A square of 10 pixels is smaller than a patch of 16"),
        ("trained", GREY, {"tokens": ("class",)}, "class tokens of block 1 hardly differ on these 6 images"),
        (
            "trained",
            noise(6),
            {"estimator": "exact"},
            r"would hold 96 tokens of 4 layers, 0\.0 GiB: take --estimator unb",
        ),
    ],
)
def test_refusals(request, monkeypatch, model: str, images: ImageSet, settings: dict[str, Any], message: str):
    monkeypatch.setattr(layer_similarity, "MOST_EXACT_VALUES", 1000)
    with pytest.raises(UserError, match=message):
        layer_similarities(request.getfixturevalue(model), images, SimilaritySettings(**settings))


def test_images_of_a_dataset_and_of_files(squares: Path, tmp_path):
    images = dataset_images(PreparedDataset.open(squares), limit=2)
    assert (images.name, images.count) == ("squares val", 2)
    assert images.read(1).ndim == 3
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    files = file_images([broken], "broken.png")
    with pytest.raises(UserError, match=r"broken\.png cannot be read"):
        files.read(0)


def test_the_middle_square_is_what_a_full_resize_cropped_holds():
    image = np.random.default_rng(0).integers(0, 256, (50, 99, 3), dtype=np.uint8)
    assert central_square(image, 50).tolist() == image[:, 24:74].tolist()
    assert central_square(image, 32).shape == (32, 32, 3)


def test_what_is_read_from_a_matrix():
    rows = ("block 1", "block 2", "tap 1", "block 3")
    similarity = LayerSimilarity("t", "m", "m", rows, rows, "patch", "exact", 2, 8, np.arange(16.0).reshape(4, 4))
    assert (similarity.last_block, similarity.neighbours) == (3, ((1, 0), (3, 1)))
    assert similarity.mean_of_neighbours == (4 + 13) / 2
    assert similarity.mean_of_last_row == (12 + 13) / 2
    assert similarity.basis == "8 patch tokens of 2 images, exact"
    taps = LayerSimilarity("t", "m", "m", ("tap 1",), ("tap 1",), "patch", "exact", 2, 8, np.ones((1, 1)))
    assert taps.last_block is None
    assert np.isnan([taps.mean_of_neighbours, taps.mean_of_last_row]).all()
