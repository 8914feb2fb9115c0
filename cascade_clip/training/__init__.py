"""Training: the loop, optimiser groups, schedule, run folder, and the state that resuming needs."""
