"""Demo data drawn in code, and the shrinking of any config to run on it in minutes."""

from .dataset import write_ade20k, write_coco
from .shrink import shrink

__all__ = ["shrink", "write_ade20k", "write_coco"]
