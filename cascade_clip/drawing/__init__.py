"""Pictures of label maps: colours of classes, overlays, legends."""
