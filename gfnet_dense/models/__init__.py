"""Backbones with global filters, and data preprocessors: importing them loads no runner."""

from .backbones import GFNet, HorNet, IsotropicGFNet
from .layers import GlobalFilter
from .preprocessors import det_data_preprocessor, seg_data_preprocessor
from .utils.filter_resize import resize_filter

__all__ = [
    "GFNet",
    "GlobalFilter",
    "HorNet",
    "IsotropicGFNet",
    "det_data_preprocessor",
    "resize_filter",
    "seg_data_preprocessor",
]
