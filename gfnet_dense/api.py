"""Former import path of :mod:`gfnet_dense.apis`, which stays importable."""

from gfnet_dense.apis.inference import predict
from gfnet_dense.apis.loading import load_backbone, load_model

__all__ = ["load_backbone", "load_model", "predict"]
