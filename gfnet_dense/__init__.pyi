from .apis.inference import predict
from .apis.loading import list_models, load_backbone, load_model
from .heads import FPN, FCNHead, FPNHead, PSPHead, SegformerHead, UPerHead
from .models import GFNet, GlobalFilter, HorNet, IsotropicGFNet, resize_filter
from .sharing import from_pretrained, push_to_hub, save_pretrained
from .utils.errors import InputError

__version__: str

__all__ = [
    "FCNHead",
    "FPN",
    "FPNHead",
    "GFNet",
    "GlobalFilter",
    "HorNet",
    "InputError",
    "IsotropicGFNet",
    "PSPHead",
    "SegformerHead",
    "UPerHead",
    "from_pretrained",
    "list_models",
    "load_backbone",
    "load_model",
    "predict",
    "push_to_hub",
    "resize_filter",
    "save_pretrained",
]
