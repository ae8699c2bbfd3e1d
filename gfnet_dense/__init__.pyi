from .apis.inference import predict
from .apis.loading import load_backbone, load_model
from .models import GFNet, GlobalFilter, IsotropicGFNet, resize_filter
from .utils.errors import InputError

__version__: str

__all__ = [
    "GFNet",
    "GlobalFilter",
    "InputError",
    "IsotropicGFNet",
    "load_backbone",
    "load_model",
    "predict",
    "resize_filter",
]
