from .backbones import GFNet, IsotropicGFNet
from .layers import GlobalFilter

__all__ = ["GFNet", "GlobalFilter", "IsotropicGFNet"]
