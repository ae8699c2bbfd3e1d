"""Using trained models from Python: loading them, predicting images, writing predictions."""

from .inference import predict
from .loading import load_backbone, load_model

__all__ = ["load_backbone", "load_model", "predict"]
