"""Tables of the paper, and of one's own, as runs."""
