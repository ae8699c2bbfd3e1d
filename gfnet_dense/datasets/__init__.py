"""Checks of data before and while it is loaded, and loading that can be resumed exactly."""

from .seeded import NumberedSampler, SeededDataset

__all__ = ["NumberedSampler", "SeededDataset"]
