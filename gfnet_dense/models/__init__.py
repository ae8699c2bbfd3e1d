from .gfnet import GFNet
from .gfnet_isotropic import IsotropicGFNet
from .global_filter import GlobalFilter

__all__ = ["GFNet", "GlobalFilter", "IsotropicGFNet"]
