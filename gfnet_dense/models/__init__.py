"""Backbones with global filters; they need torch and mmengine alone."""

from .backbones import GFNet, IsotropicGFNet
from .layers import GlobalFilter
from .utils.filter_resize import resize_filter

__all__ = ["GFNet", "GlobalFilter", "IsotropicGFNet", "resize_filter"]
