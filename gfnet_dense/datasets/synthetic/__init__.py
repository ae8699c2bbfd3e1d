"""Scenes that are drawn in code, with exact labels, in the layout of real data sets."""

from .writers import write_ade20k, write_coco

__all__ = ["write_ade20k", "write_coco"]
