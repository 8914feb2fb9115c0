"""`python -m cascade_clip_cli`, which also serves `accelerate launch -m cascade_clip_cli …` and `--nproc`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until `main` handles it, Ctrl-C would show a traceback of imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from cascade_clip_cli.main import main

main()
