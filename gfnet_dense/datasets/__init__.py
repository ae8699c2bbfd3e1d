"""Data sets: checks before and during loading, seeded samples, synthetic scenes, COCO masks."""

from .bands import LoadImageBands
from .seeded import SeededDataset, SeededSampler

__all__ = ["LoadImageBands", "SeededDataset", "SeededSampler"]
