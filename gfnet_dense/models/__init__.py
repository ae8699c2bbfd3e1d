"""Backbones with global filters: importing them loads torch and mmengine, but no runner."""

from .backbones import GFNet, IsotropicGFNet
from .layers import GlobalFilter
from .utils.filter_resize import resize_filter

__all__ = ["GFNet", "GlobalFilter", "IsotropicGFNet", "resize_filter"]
