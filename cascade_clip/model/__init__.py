"""The network: CLIP and its prompts, aggregation, queries, decoders, and how a recipe puts them together."""
