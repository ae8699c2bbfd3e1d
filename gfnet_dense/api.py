"""Former import path of ``load_model``, ``load_backbone`` and ``predict``.

It is kept for existing programs; new ones import from :mod:`gfnet_dense`.
"""

from gfnet_dense.apis.inference import predict
from gfnet_dense.apis.loading import load_backbone, load_model

__all__ = ["load_backbone", "load_model", "predict"]
