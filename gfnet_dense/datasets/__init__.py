"""Data sets: checks before and during loading, seeded samples, synthetic scenes, COCO masks."""

from .seeded import SeededDataset, SeededSampler

__all__ = ["SeededDataset", "SeededSampler"]
