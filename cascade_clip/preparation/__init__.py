"""Preparation: official archives, own folders and other layouts become prepared datasets (DESIGN section 4.1)."""
