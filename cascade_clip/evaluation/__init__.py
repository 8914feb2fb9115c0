"""From labels to scores: one confusion matrix over a dataset, the figures it gives, and the paper's beside them."""
