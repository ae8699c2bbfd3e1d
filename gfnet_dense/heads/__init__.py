"""Heads and necks of mmsegmentation with less arithmetic: importing them needs mmsegmentation.

They take the arguments of the classes from which they derive, any backbone, and the same weights.
"""

from .fcn_head import FCNHead
from .fpn import FPN, FPNHead
from .psp_head import PSPHead
from .segformer_head import SegformerHead
from .uper_head import UPerHead

__all__ = ["FCNHead", "FPN", "FPNHead", "PSPHead", "SegformerHead", "UPerHead"]
