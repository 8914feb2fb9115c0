"""Losses of the released models: focal and dice over per-class masks, and the label maps they compare with."""
