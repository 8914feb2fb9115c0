"""Tables of results on the terminal."""

from io import StringIO

import numpy as np
from rich.console import Console

from cascade_clip.inference.segmentation import Segmentation
from cascade_clip_cli.tables import prediction_line, prediction_table


def test_a_share_that_rounds_to_nothing_is_shown_as_in_the_legend():
    labels = np.zeros((100, 100), np.uint8)
    labels[0, :2] = 1, 255
    console = Console(width=80, record=True, file=StringIO())
    found = Segmentation(labels, np.ones((100, 100), np.float32), ("sky", "bird"))
    console.print(prediction_table(found, title=""))
    text = console.export_text()
    assert text.count("< 0.1 %") == 2
    assert "100.0 %" in text
    assert prediction_line(found, title="a.png").plain == "a.png: ■ sky 100 % (1.00)  ■ bird < 1 % (1.00)"
