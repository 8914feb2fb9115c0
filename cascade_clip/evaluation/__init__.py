"""From labels to scores: one confusion matrix over a data set, the figures it gives, and the paper's beside them."""
