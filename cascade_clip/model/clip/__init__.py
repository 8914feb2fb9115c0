"""CLIP through open_clip: loading, the prompted image encoder, text embeddings of class names."""
