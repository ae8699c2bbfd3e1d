from .gfnet import GFNet
from .isotropic import IsotropicGFNet

__all__ = ["GFNet", "IsotropicGFNet"]
