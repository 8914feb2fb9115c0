"""Export: a model as one ONNX or pt2 file that takes images and text embeddings, checked against PyTorch."""
