"""`cascade-clip import-upstream`: a released checkpoint becomes a checkpoint folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cascade_clip import output_folder as output_folder_rules
from cascade_clip.checkpoint import folder as checkpoint_folder
from cascade_clip.checkpoint import upstream, upstream_file
from cascade_clip.errors import UserError, counted
from cascade_clip_cli.checked_options import as_path, input_file, output_folder, path_option
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.options import QuietOption, SplitOption

_BLOCK = re.compile(r"[1-9][0-9]{0,2}")
"""Number of a block; no tower has a thousand."""


def import_upstream(
    file: Annotated[
        Path,
        typer.Argument(
            parser=as_path,
            callback=input_file,
            help="A checkpoint (.pth) of the released Cascade-CLIP, ZegCLIP or SPT-SEG.",
        ),
    ],
    output: Annotated[Path, path_option("--output", "-o", check=output_folder, help="Folder to write to.")],
    split: SplitOption = None,
    vision_heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of the image tower; default width / 64.")
    ] = None,
    text_heads: Annotated[int | None, typer.Option(min=1, help="Heads of the text tower; default width / 64.")] = None,
    decoder_heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of the decoders; default dimension / 64.")
    ] = None,
    stages: Annotated[
        str | None, typer.Option(help="Blocks of each stage, e.g. 6-8,9-11,12; default: right below the last block.")
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="Text templates: single (VOC) or multi (COCO, Context); default: the split's.")
    ] = None,
    self_trained: Annotated[
        bool, typer.Option("--self-trained", help="A transductive model: no bias is subtracted from seen classes.")
    ] = False,
    text_from: Annotated[
        str | None,
        typer.Option(help="CLIP whose text tower is taken if the file has none, e.g. ViT-B-16-quickgelu:openai."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let the file execute what it pickles; only if you trust it.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Turn a released checkpoint (mmcv pickle) into a checkpoint folder, every tensor accounted for.

    Example: cascade-clip import-upstream coco.pth --split coco-seen --output models/coco
    """

    options = upstream.ImportOptions(vision_heads, text_heads, decoder_heads, _stages(stages), text_from)
    output_folder_rules.check_output_folder(output, checkpoint_folder.CHECKPOINT_FOLDER, inputs=[file])
    # The split is looked up first: a typing mistake should not cost the reading of a large file.
    recipe = upstream.recipe_of_import(file.stem, split, templates=templates, self_trained=self_trained)
    with stderr.doing(f"importing {file.name}"):
        state = upstream_file.read_state_dict(file, trust_pickle=trust_pickle)
        imported = upstream.import_state_dict(state, options)
        upstream.save_import(imported, recipe, output)
    stdout.print(
        f"Imported {file.name}: stages {[list(stage) for stage in imported.network.head.stages]},"
        f" {imported.config.prompts.tokens} prompt tokens."
    )
    stdout.print(
        f"Left out {counted(len(imported.dropped), 'tensor')} that nothing reads"
        f" ({imported.dropped_numbers:,} numbers); results are equal without them."
    )
    if not imported.clip.identity.has_text:
        stdout.print("The file has no text tower: give text_embeddings=, or import with --text-from.")
    stdout.print(f"Model: {output}")


def _stages(text: str | None) -> tuple[tuple[int, ...], ...] | None:
    """Read "6-8,9-11,12" as ((6, 7, 8), (9, 10, 11), (12,))."""

    if text is None:
        return None
    stages = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (_BLOCK.fullmatch(first) and _BLOCK.fullmatch(last or first) and int(first) <= int(last or first)):
            raise UserError(f'--stages "{text}" is not understood at "{part.strip()}": write blocks like 6-8,9-11,12.')
        stages.append(tuple(range(int(first), int(last or first) + 1)))
    return tuple(stages)
