"""The head: aggregation of a stage's blocks, queries from text, text-image decoders, and their cascade."""
