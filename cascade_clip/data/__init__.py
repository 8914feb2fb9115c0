"""Data: class lists and splits, prepared datasets, training transforms and samples."""
