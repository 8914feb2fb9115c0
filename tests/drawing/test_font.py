"""Fonts of pictures."""

import pytest
from PIL import ImageFont

from cascade_clip.drawing import font as fonts
from cascade_clip.drawing.font import font_for


def _names(texts: list[str]) -> tuple[str | None, str | None]:
    return font_for(texts, 18).getname()


def test_letters_that_pillow_lacks_are_drawn_by_a_font_of_the_system(monkeypatch):
    own = ImageFont.load_default(18).getname()
    assert _names(["road", "wall-concrete *", ""]) == own
    try:
        ImageFont.truetype("DejaVuSans.ttf", 18)
    except OSError:
        pytest.skip("needs the font DejaVu Sans")
    for names in (["Straße", "tree"], ["éclair"], ["дерево"]):
        assert _names(names) == ("DejaVu Sans", "Book")
    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ("none.ttf",))
    assert _names(["Straße"]) == own
