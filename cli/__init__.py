"""Command line of Cascade-CLIP, installed as `cascade_clip_cli`: parse, call the library, print.

Its files import modules of the library (`from cascade_clip.training import run_training`), not names out of them: such
a module is executed when one of its names is first used, so that `--help` and a mistake in the options cost no import
of torch.
"""

import sys

from cascade_clip_cli.deferred_imports import DeferringFinder

sys.meta_path.insert(0, DeferringFinder())
