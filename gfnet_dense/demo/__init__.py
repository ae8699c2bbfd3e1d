"""Demo of a config: a shrunken copy that trains within minutes on synthetic scenes."""

from gfnet_dense.datasets.synthetic import write_ade20k, write_coco

from .bands import match_bands
from .shrink import shrink, write_data

__all__ = ["match_bands", "shrink", "write_ade20k", "write_coco", "write_data"]
