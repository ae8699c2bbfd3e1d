from .gfnet import GFNet
from .global_filter import GlobalFilter

__all__ = ["GFNet", "GlobalFilter"]
