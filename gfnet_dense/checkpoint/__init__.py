"""Checkpoint files: downloading, safe reading, loading with a report, converting, publishing."""

from .loading import PretrainedInit, load_pretrained

__all__ = ["PretrainedInit", "load_pretrained"]
