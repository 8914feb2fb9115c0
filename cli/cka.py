"""`cascade-clip cka`: how alike the layers of a model are, before and after training."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from cascade_clip import runtime, segmenter
from cascade_clip.analysis import layer_similarity, layer_tokens, observed_model
from cascade_clip.errors import UserError, closest
from cascade_clip.evaluation import evaluate
from cascade_clip.inference import sources
from cascade_clip.report import heat_map
from cascade_clip.report import page as pages
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import output_folder, path_option, place
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.loading import check_dataset, recipe_of
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import MISSING, plain_table, right, write_json

FEWEST_IMAGES, MOST_IMAGES = 4, 1_000_000
OWN_CLIP = "clip"
"""Value of `--against` for the CLIP that the model is built on."""
FIRST_SPLIT = "shapes"
"""The split whose images are used where neither the options nor the model name one."""


@dataclass(frozen=True)
class ImageOptions:
    """The images that are looked at."""

    data: options.DataOption = None
    split: options.SplitOption = None
    stream: options.StreamOption = False
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images", metavar="PATH", callback=place, help="Files, a folder or a quoted glob instead; repeatable."
        ),
    ] = None
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most N images, spread evenly; 0: all.")] = 256

    def check(self, model: str) -> None:
        """Find what would stop the command after the model is loaded."""
        if self.images and (self.data is not None or self.split is not None):
            raise UserError("Give either --images or --data and --split: both choose the images.")
        if self.images:
            sources.find_images(self.images)
        else:
            check_dataset(self.split, self.data, recipe_of(observed_model.model_name(model)), stream=self.stream)

    def find(self, model: segmenter.CascadeCLIP) -> layer_tokens.ImageSet:
        """The files, or the validation images of the dataset that is named, of the model's split, or of `FIRST_SPLIT`.

        Raises UserError where there is no such dataset, or no image in it.
        """
        if self.images:
            return layer_tokens.file_images(sources.find_images(self.images), ", ".join(self.images), limit=self.limit)
        unnamed = self.data is None and self.split is None and model.split is None
        _, dataset = evaluate.find_dataset(model, FIRST_SPLIT if unnamed else self.split, self.data, stream=self.stream)
        found = layer_tokens.dataset_images(dataset, limit=self.limit)
        if not found.count:
            raise UserError(f'The dataset "{dataset.name}" has no validation images; name image files with --images.')
        return found


@dataclass(frozen=True)
class ComparisonOptions:
    """Which layers are compared, and how."""

    cross: Annotated[bool, typer.Option("--cross", help="Also compare the layers of both models with each other.")] = (
        False
    )
    layers: Annotated[
        str, typer.Option("--layers", help="Any of blocks, taps (the head's inputs), stages (merged); comma-separated.")
    ] = "blocks"
    tokens: Annotated[Literal["patch", "class", "both"], typer.Option("--tokens", help="Tokens to compare.")] = "patch"
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=1, max=options.LARGEST_SIDE, help="Side in pixels of the central square that is used."
        ),
    ] = None
    patches: Annotated[int, typer.Option("--patches", min=0, help="Patches drawn per image; 0: all.")] = 16
    estimator: Annotated[
        Literal["auto", "exact", "unbiased"],
        typer.Option("--estimator", help="exact keeps all tokens in memory, unbiased works in batches; auto chooses."),
    ] = "auto"
    batch: Annotated[
        int,
        typer.Option("--batch", min=FEWEST_IMAGES, max=MOST_IMAGES, help="Images per batch of the unbiased estimator."),
    ] = 64
    seed: Annotated[int, typer.Option("--seed", min=0, max=options.LARGEST_SEED, help="Seed for drawing patches.")] = 0

    def settings(self) -> layer_similarity.SimilaritySettings:
        """The same for the library; raises UserError for unknown layers."""
        return layer_similarity.SimilaritySettings(
            layers=chosen_layers(self.layers),
            tokens=("patch", "class") if self.tokens == "both" else (self.tokens,),
            estimator=self.estimator,
            side=self.size,
            patches=self.patches,
            batch=self.batch,
            seed=self.seed,
            cross=self.cross,
        )


def cka(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CKPT-or-CLIP",
            callback=place,
            help="Checkpoint or run folder, ORG/NAME, bundled, or a CLIP that open_clip knows.",
        ),
    ],
    *,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", callback=place, help="Model to compare with; clip: the model's own CLIP, before training."
        ),
    ] = None,
    comparison: ComparisonOptions,
    looked_at: ImageOptions,
    nproc: options.ProcessesOption = 1,
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "fp32",
    output: options.OutputFolder = Path("cka"),
    report: Annotated[
        Path | None, path_option("--report", check=output_folder, help="Also write a page to this folder.")
    ] = None,
    json_file: options.JsonOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Compare all layers of a model by linear CKA (the paper's Figure 4) and write a heat map, CSV and JSON.

    The images are the validation images of --data or --split (default: those the model was trained for), or --images.

    Example: cascade-clip cka runs/mine --against clip
    """
    heat_map.check_heat_map_folder(output)
    if report is not None:
        pages.check_page(report / "index.html")
    if comparison.cross and against is None:
        raise UserError("--cross compares the layers of two models: name the other one with --against.")
    settings = comparison.settings()
    looked_at.check(model)
    if nproc > 1 and run_processes(nproc, device):
        return
    started = time.perf_counter()
    names = [observed_model.model_name(name) for name in (model, against) if name not in {None, OWN_CLIP}]
    state, own_device = runtime.own_process(device)
    with stderr.doing("loading the model"):
        loaded = [segmenter.CascadeCLIP.from_pretrained(name, device=own_device, precision=precision) for name in names]
    main, other = _observed(model, against, loaded)
    images = looked_at.find(loaded[0])
    processes = layer_similarity.ProcessGroup(state.process_index, state.num_processes, runtime.gathered)
    with progress_bar("cka") as progress:
        shown = progress if state.is_main_process else None
        found = layer_similarity.layer_similarities(
            main, images, settings, other=other, processes=processes, progress=shown
        )
    if not state.is_main_process:
        return
    record = {
        "model": model,
        "against": against,
        "images": images.count,
        "of": images.name,
        "size": settings.side or main.side,
        "patches": settings.patches,
        "batch": settings.batch,
        "seed": settings.seed,
        "precision": precision,
        "processes": state.num_processes,
        "seconds": round(time.perf_counter() - started, 2),
    }
    _write(found, record, output, report, json_file)


def chosen_layers(given: str) -> tuple[observed_model.LayerKind, ...]:
    """Read `--layers`, shallow to deep; raises UserError for no word, or one that is no kind of layer."""
    known, words = observed_model.LAYER_KINDS, [word.strip() for word in given.split(",") if word.strip()]
    for word in (word for word in words if word not in known):
        raise UserError(f'--layers knows no "{word}".{closest(word, known)}')
    if not words:
        raise UserError(f"--layers is empty: give some of {', '.join(known)}.")
    return tuple(layer for layer in known if layer in words)


def _write(
    similarities: list[layer_similarity.LayerSimilarity],
    record: dict[str, Any],
    output: Path,
    report: Path | None,
    json_file: Path | None,
) -> None:
    complete = {**record, "matrices": [similarity.to_dict() for similarity in similarities]}
    files = heat_map.write_heat_map(output, similarities, complete)
    stdout.print(summary_table(similarities))
    stdout.print(f"Written: {', '.join(str(file) for file in files)}")
    if report is not None:
        page = heat_map.write_cka_report(report, similarities, record)
        stdout.print(f"Written: {page}")
    if json_file is not None:
        write_json(json_file, complete)


def _observed(
    given: str, against: str | None, loaded: Sequence[segmenter.CascadeCLIP]
) -> tuple[observed_model.ObservedModel, observed_model.ObservedModel | None]:
    """The model, and the other one if any; raises UserError for CLIP against itself."""
    if against != OWN_CLIP:
        other = observed_model.observed_model(loaded[1], against, against) if against is not None else None
        return observed_model.observed_model(loaded[0], given, given), other
    main = observed_model.observed_model(loaded[0], given, f"{given}, after training")
    if main.head is None:
        raise UserError(f'"{given}" is CLIP as it is: --against clip compares a trained model with the CLIP below it.')
    return main, observed_model.observed_clip(loaded[0], "CLIP", "CLIP, before training")


def summary_table(similarities: Sequence[layer_similarity.LayerSimilarity]) -> Table:
    """Of each matrix its tokens, and the mean similarity of neighbouring blocks and of the last with earlier ones."""
    table = plain_table("", "", "tokens", right("neighbouring blocks"), right("last block with earlier ones"))
    for similarity in similarities:
        figures = (similarity.mean_of_neighbours, similarity.mean_of_last_row)
        shown = (MISSING if math.isnan(value) else f"{value:.2f}" for value in figures)
        table.add_row(Text(similarity.title), similarity.basis, *shown)
    return table
