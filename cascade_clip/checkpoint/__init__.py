"""Checkpoint folders (`folder`), and the import of released checkpoints (`upstream`)."""
