"""Recipes that come with Cascade-CLIP, installed as `cascade_clip_recipes`: TOML files, one folder a dataset."""
