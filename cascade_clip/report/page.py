"""Self-contained HTML pages: style, script and pictures inside one file that needs no network and escapes names."""

import base64
import hashlib
import io
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

import cascade_clip
from cascade_clip.drawing.overlay import percent
from cascade_clip.drawing.palette import BOTH, SEEN, UNSEEN, hex_colour
from cascade_clip.errors import UserError, counted, reason_of
from cascade_clip.files import write_files
from cascade_clip.output_folder import check_own_files

MISSING = "–"
_GENERATOR = b'<meta name="generator" content="cascade-clip '
PICTURE_SIDE = 900
"""Longer side of a picture inside a page, in pixels."""
JPEG_QUALITY = 86


def render_page(template: str, *, pictures_beside: bool = False, **content: Any) -> str:
    """Fill a template of `report/templates`; whatever is not marked as HTML is escaped.

    The page forbids itself the network and every script but its own, by their hashes (Content-Security-Policy): a name
    that slipped through unescaped could still not run. With `pictures_beside` it shows picture files of its own folder.
    """
    templates = Path(__file__).with_name("templates")
    style, script = (templates.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = [
        "default-src 'none'",
        f"script-src {_source_hash(script)}",
        f"style-src-elem {_source_hash(style)}",
        "style-src-attr 'unsafe-inline'",
        # From a file, "'self'" means nothing to some browsers.
        "img-src data: 'self' file:" if pictures_beside else "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return (
        _environment()
        .get_template(template)
        .render(
            policy="; ".join(policy),
            style=Markup(style),
            script=Markup(script),
            tool=f"cascade-clip {cascade_clip.__version__}",
            group_colours={"seen": hex_colour(SEEN), "unseen": hex_colour(UNSEEN), "both": hex_colour(BOTH)},
            **content,
        )
    )


def write_page(file: Path, html: str) -> Path:
    """Write a page, whole or not at all, and the folder it needs; give its file back.

    Raises UserError: it cannot be written, or a file is there that is no page of the toolkit's.
    """
    check_page(file)
    # A lone surrogate, as in a file name that is no UTF-8, must not cost the report.
    write_report({file: html.encode("utf-8", errors="replace")})
    return file


def write_report(files: Mapping[Path, bytes], what: str = "report") -> None:
    """Write files of one folder, all or none, in this order; raises UserError where that fails."""
    try:
        write_files(files)
    except OSError as error:
        raise unwritable(next(iter(files)).parent, error, what) from error


def check_page(file: Path) -> None:
    """Check before the work that a page can be written without replacing a file of the user's.

    Raises UserError: a file is there that is no page of the toolkit's, or its folder is named as a page.
    """
    folder = file.parent
    if folder.suffix.lower() in {".html", ".htm"} and not folder.is_dir():
        raise UserError(f'A page is index.html in a folder of its own: give "{folder.with_suffix("")}".')
    check_own_files([file], _is_page)


def _is_page(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return _GENERATOR in opened.read(4096)
    except OSError:
        return False


def unwritable(folder: Path, error: OSError, what: str = "report") -> UserError:
    """The one sentence about a folder that nothing can be written to."""
    return UserError(f'The {what} cannot be written to "{folder}": {reason_of(error)}. Choose another folder.')


def data_uri(picture: Image.Image) -> str:
    """A picture inside a page, at most 900 pixels long: "data:image/jpeg;base64,…"."""
    return "data:image/jpeg;base64," + base64.b64encode(page_jpeg(picture)).decode()


def page_jpeg(picture: Image.Image) -> bytes:
    """A picture at the size of a page, at most 900 pixels long, as JPEG."""
    shown = picture.convert("RGB")
    shown.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS, reducing_gap=3)
    drawn = io.BytesIO()
    # Full colour resolution: halved, it would smear the borders between classes.
    shown.save(drawn, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return drawn.getvalue()


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested record as lines of a table: {"inference.crop": "512"}; lists are joined, nothing at all is a dash.

    Lists of records are left out: they are results, not settings.
    """
    lines: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            lines |= flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            if any(isinstance(entry, Mapping) for entry in value):
                continue
            lines[f"{prefix}{key}"] = ", ".join(str(entry) for entry in value) or MISSING
        else:
            lines[f"{prefix}{key}"] = MISSING if value is None else str(value)
    return lines


def _hundredths(fraction: float, digits: int = 1) -> str:
    """A fraction in percent without the sign; a dash where it does not exist."""
    return MISSING if math.isnan(fraction) else f"{100 * fraction:.{digits}f}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cascade_clip.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"hundredths": _hundredths, "count_of": "{:,}".format, "counted": counted}
    environment.filters |= {"share": percent, "hex": hex_colour, "data_uri": data_uri}
    return environment


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
