"""The backbones: hierarchical (GFNet-H) and isotropic GFNets, and HorNets."""

from .gfnet import GFNet
from .hornet import HorNet
from .isotropic import IsotropicGFNet

__all__ = ["GFNet", "HorNet", "IsotropicGFNet"]
