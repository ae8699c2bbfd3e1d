"""Trained models for Python programs: loading, predicting, writing predictions."""

from .inference import predict
from .loading import load_backbone, load_model

__all__ = ["load_backbone", "load_model", "predict"]
