"""Checks of data sets, before and during loading, and samples that can be resumed exactly."""

from .seeded import SeededDataset, SeededSampler

__all__ = ["SeededSampler", "SeededDataset"]
