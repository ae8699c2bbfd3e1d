"""Models for runtimes without PyTorch: graphs of real numbers, ONNX files."""

from .graphs import freeze_size
from .writers import check_format, export

__all__ = ["check_format", "export", "freeze_size"]
