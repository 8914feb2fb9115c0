"""Preparation: official archives, own folders and other layouts become prepared datasets.

See cascade_clip/README.md, section 4.1.
"""
