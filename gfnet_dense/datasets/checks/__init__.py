"""Checks of the data of a config before a run."""
