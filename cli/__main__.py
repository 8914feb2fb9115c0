"""`python -m cascade_clip_cli`, which also serves `accelerate launch -m cascade_clip_cli …`."""

from cascade_clip_cli.main import main

main()
