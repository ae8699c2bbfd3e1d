"""Export of models to ONNX and torch.export files, without complex numbers and FFT."""

from .graphs import freeze_size
from .writers import check_format, export

__all__ = ["check_format", "export", "freeze_size"]
