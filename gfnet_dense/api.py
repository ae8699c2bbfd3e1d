"""Former import path of :mod:`gfnet_dense.apis`, which stays importable."""

from gfnet_dense.apis import load_backbone, load_model, predict

__all__ = ["load_backbone", "load_model", "predict"]
