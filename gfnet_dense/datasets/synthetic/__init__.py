"""Synthetic scenes with exact labels, written in the layout of ADE20K and of COCO."""

from .writers import write_ade20k, write_coco

__all__ = ["write_ade20k", "write_coco"]
