"""How fast and how lean: the toolkit measured against the bare CLIP tower."""
