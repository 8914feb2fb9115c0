"""`cascade-clip demo`: a page for photographs and words."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade_clip import demo as demo_page
from cascade_clip import segmenter
from cascade_clip.analysis import observed_model
from cascade_clip.errors import UserError
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.options import DeviceOption, PrecisionOption, QuietOption

LOCAL = "127.0.0.1"


def demo(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="As in predict; give it twice to compare two. Default: bundled."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets other machines in.")] = LOCAL,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Default: the first free port from 7860.")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    quiet: QuietOption = False,
) -> None:
    """Open a page where you drop photographs and type words; programs can use it over HTTP.

    Hover over masks to read their classes, click a point for patches like it (the paper's Figure 1), switch stages on
    and off (Figure 6). Needs the extra `demo`, Gradio. Only this machine can reach the page, unless --host opens it.

    Example: cascade-clip demo --model dense:bundled --model bundled
    """
    given = list(dict.fromkeys(models or ["bundled"]))
    if len(given) > 2:
        raise UserError(f"{len(given)} models were given with --model; the page compares two at most.")
    demo_page.check_installed()
    with stderr.doing("loading the model"):
        loaded = {
            observed_model.model_name(name): segmenter.CascadeCLIP.from_pretrained(
                name, device=device, precision=precision
            )
            for name in given
        }
    page = demo_page.build_page(demo_page.Demo(loaded))
    demo_page.launch(page, host, port, lambda url: stdout.print(f"Open {url} (Ctrl-C ends)"))
