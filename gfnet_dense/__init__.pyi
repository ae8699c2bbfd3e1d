from .apis.inference import predict
from .apis.loading import load_backbone, load_model
from .heads import FPN, FCNHead, FPNHead, PSPHead, SegformerHead, UPerHead
from .models import GFNet, GlobalFilter, IsotropicGFNet, resize_filter
from .utils.errors import InputError

__version__: str

__all__ = [
    "FCNHead",
    "FPN",
    "FPNHead",
    "GFNet",
    "GlobalFilter",
    "InputError",
    "IsotropicGFNet",
    "PSPHead",
    "SegformerHead",
    "UPerHead",
    "load_backbone",
    "load_model",
    "predict",
    "resize_filter",
]
