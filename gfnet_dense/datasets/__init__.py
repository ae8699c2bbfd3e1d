"""Checks of data before and while it is loaded, and loading that can be resumed exactly."""

from .seeded import SeededDataset, SeededSampler

__all__ = ["SeededSampler", "SeededDataset"]
