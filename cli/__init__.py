"""Command line of Cascade-CLIP, installed as `cascade_clip_cli`: parse, call the library, print."""
