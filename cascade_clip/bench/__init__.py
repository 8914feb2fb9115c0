"""Time, memory and operations of the toolkit, measured beside the bare CLIP image tower."""
