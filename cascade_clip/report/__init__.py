"""Pictures for people: palettes that colour-blind readers can tell apart, and overlays with a legend."""
