"""What `predict` reads, and how the files of each image are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cascade_clip.errors import UserError
from cascade_clip.inference import prediction_files, sources
from cascade_clip_cli.console import stderr
from cascade_clip_cli.predict_images import Outcome, left_out


def fetched_sources(found: Sequence[sources.Source], folder: Path) -> tuple[list[sources.Source], list[Outcome]]:
    """Read what is not a file into files of a folder; the only one's error is the command's.

    Gives those that could be read, and the outcomes of the others.
    """
    read, failed = [], []
    for source in found:
        try:
            with stderr.doing(f"reading {source.name}"):
                read.append(sources.fetched(source, folder))
        except UserError as error:
            failed.append(left_out("image", source, error, single=len(found) == 1))
    return read, failed


def output_stems(found: Sequence[sources.Source], output: Path) -> dict[sources.Source, str]:
    """The stem of each file's predictions: an earlier one of the same file is replaced, another's files are kept."""
    read = {Path(os.path.realpath(source.path)) for source in found}
    longer: list[sources.Source] = []

    def taken(stem: str, source: sources.Source) -> bool:
        if not prediction_files.is_taken(output, stem, source.identity, read):
            return False
        longer.append(source)
        return True

    stems = dict(zip(found, sources.output_stems(found, taken), strict=True))
    replaced = sum(prediction_files.is_prediction(output, stem) for stem in stems.values())
    if replaced:
        notice(f"Earlier predictions of the same images in {output} are replaced: {replaced}.")
    if longer:
        one = longer[0]
        others = f", and {len(set(longer)) - 1} more likewise" if len(set(longer)) > 1 else ""
        notice(
            f'{output} holds files of something else called "{one.path.stem}": {one.name} becomes {stems[one]}{others}.'
        )
    return stems


def check_apart(result: Path | None, found: Sequence[sources.Source], output: Path) -> None:
    """Check that the file of `--json` is not the record of one of the predictions; raises UserError where it is."""
    if result is None:
        return
    for stem in sources.output_stems(found):
        if (record := output / f"{stem}{prediction_files.RECORD}").resolve() == result.resolve():
            raise UserError(f'--json "{result}" is where the prediction "{record.name}" goes: choose another file.')


def notice(line: str) -> None:
    """Tell on stderr what a user may not expect; a script that asks for results only does not get it."""
    stderr.print(line, soft_wrap=True)
