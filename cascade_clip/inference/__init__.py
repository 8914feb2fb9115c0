"""From an image of any size to a label map: windows, scores, labels and the files that hold them."""
