"""What the values of a label map mean, the same in every room."""

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""Value of pixels that carry no label: they are neither scored nor counted."""

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W) class index of every pixel."""
