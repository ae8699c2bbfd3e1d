"""Training: the runner, its hooks and the parameter groups of the optimizer."""
