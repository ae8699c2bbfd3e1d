"""Training: the runner, its hooks, the optimizer."""
