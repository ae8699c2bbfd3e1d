"""The GFNet backbones: hierarchical (GFNet-H) and isotropic."""

from .gfnet import GFNet
from .isotropic import IsotropicGFNet

__all__ = ["GFNet", "IsotropicGFNet"]
