"""Checkpoint files: downloading, safe reading, loading with a report, converting, publishing."""

from .loading import PretrainedBackbone, load_pretrained

__all__ = ["PretrainedBackbone", "load_pretrained"]
