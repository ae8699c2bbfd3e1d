"""The backbones of a benchmark over image sizes: our own, and those they are compared with."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from unittest.mock import MagicMock

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from gfnet_dense.models import GFNet
from gfnet_dense.models.utils.filter_resize import symmetrize_filter
from gfnet_dense.utils.errors import InputError

from .complexity import count_flops
from .measure import Settings, measure
from .published import PublishedGFNet
from .sweep import Case

BN = dict(type="BN")  # mmsegmentation's configs have SyncBN, which is for several GPUs
_MIT = dict(
    type="mmseg.MixVisionTransformer",
    embed_dims=64,
    num_heads=[1, 2, 5, 8],
    patch_sizes=[7, 3, 3, 3],
    sr_ratios=[8, 4, 2, 1],
    mlp_ratio=4,
    qkv_bias=True,
    drop_path_rate=0.1,
)

# As in the configs of mmsegmentation, PVT-S in those of mmdetection: maps of strides 4 to 32.
CONFIGS = {
    # Filters are stored for the usual training crop; maps of other images resize them.
    "GFNet-H-Ti": dict(type="gfnet_dense.GFNet", arch="h-tiny", img_size=512),
    "GFNet-H-S": dict(type="gfnet_dense.GFNet", arch="h-small", img_size=512),
    "GFNet-H-B": dict(type="gfnet_dense.GFNet", arch="h-base", img_size=512),
    "ResNet-50": dict(type="mmseg.ResNet", depth=50, norm_cfg=BN),
    "Swin-T": dict(
        type="mmseg.SwinTransformer",
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.3,
    ),
    "ConvNeXt-T": dict(
        type="mmpretrain.ConvNeXt",
        arch="tiny",
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
    ),
    "MiT-B1": dict(_MIT, num_layers=[2, 2, 2, 2]),
    "MiT-B2": dict(_MIT, num_layers=[3, 4, 6, 3]),
    "MSCAN-T": dict(
        type="mmseg.MSCAN",
        embed_dims=[32, 64, 160, 256],
        mlp_ratios=[8, 8, 4, 4],
        drop_path_rate=0.1,
        depths=[3, 3, 5, 2],
        norm_cfg=BN,
    ),
    "PVT-S": dict(type="mmdet.PyramidVisionTransformer", num_layers=[3, 4, 6, 3]),
}
NAMES = tuple(CONFIGS)

# Of which weights gradients are compared
GRADIENTS = ("blocks.0.0.filter.complex_weight", "blocks.3.2.mlp.fc1.weight")
# What mmpretrain imports of it
TORCHVISION = (
    "torchvision",
    "torchvision.ops",
    "torchvision.ops.boxes",
    "torchvision.transforms",
    "torchvision.transforms.functional",
    "torchvision.transforms.transforms",
)


def cases(names: Sequence[str] | None, sizes: Sequence[int], settings: Settings) -> list[Case]:
    """Return a case for each backbone and image size.

    Args:
        names: Some of :data:`NAMES`. None: all; of those that need what is not installed it is
            printed why they are left out.
        sizes: Sides of the square images in pixels.
        settings: See there.

    Raises:
        InputError: For an unknown name, or one that needs what is not installed.
    """
    if unknown := [name for name in names or () if name not in CONFIGS]:
        raise InputError(f"the backbones here are {', '.join(NAMES)}, got {unknown[0]}")
    available = []
    for name in dict.fromkeys(names or NAMES):
        reason = _why_not(name)
        if reason and names:
            raise InputError(f"{name} cannot be had here: {reason}")
        if reason:
            print(f"{name} is left out: {reason}")
        else:
            available.append(name)
    return [
        Case(name, size, run, dict(name=name, settings=asdict(settings)))
        for name in available
        for size in sizes
    ]


def _why_not(name: str) -> str:
    """Return why a backbone cannot be built, '' if it can."""
    library = CONFIGS[name]["type"].partition(".")[0]
    try:
        _import_models(library)
    except Exception as e:  # libraries raise what they like where others are missing or too old
        text = " ".join(str(e).split())
        return f"{library} cannot be imported ({type(e).__name__}: {text})"
    return ""


def _import_models(library: str) -> None:
    if library != "mmpretrain":
        import_module(f"{library}.models")
        return
    # It needs torchvision for transforms of images alone, and PyPI's torchvision does not go with
    # a PyTorch for CPUs: stand-ins will do.
    stand_ins = {}
    try:
        import_module("torchvision")
    except Exception:
        stand_ins = {name: MagicMock() for name in TORCHVISION}
    sys.modules.update(stand_ins)
    try:
        import_module("mmpretrain.models")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def build(name: str) -> nn.Module:
    """Return an untrained backbone of :data:`NAMES`."""
    _import_models(CONFIGS[name]["type"].partition(".")[0])
    return MODELS.build(dict(CONFIGS[name]))


def images(size: int, batch_size: int) -> Tensor:
    """Return noise, (batch_size, 3, size, size), always the same."""
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))


def run(size: int, name: str, settings: dict) -> dict:
    """Measure one backbone on images of one size.

    Returns:
        What :func:`.measure` returns; ``params``, their number; ``flops``, the multiply-adds of a
        forward of one image, Fourier transforms included.
    """
    settings = Settings(**settings)
    model = build(name)
    record = measure(model, (images(size, settings.batch_size),), settings)
    return record | _cost(model, size)


def _cost(model: nn.Module, size: int) -> dict:
    """Count parameters and FLOPs; the weights of ``model`` are lost."""
    # Some of OpenMMLab's backbones return nothing from eval(): in a container that is no matter.
    flops = count_flops(nn.Sequential(model.to("meta")), (size, size))
    return {"params": sum(p.numel() for p in model.parameters()), "flops": flops.total}


def published_cases(sizes: Sequence[int], settings: Settings) -> list[Case]:
    """Return cases of GFNet-H-Ti and of its published form, with the same weights.

    Both store filters for the size that they run on, as the published form must.

    Raises:
        InputError: For a size that is no multiple of 32.
    """
    for size in sizes:
        if size % 32 or size <= 0:
            raise InputError(
                f"the published form takes images whose sides are multiples of 32, got {size}"
            )
    return [
        Case(series, size, run_either, dict(published=published, settings=asdict(settings)))
        for series, published in (("GFNet-H-Ti", False), ("published", True))
        for size in sizes
    ]


def run_either(size: int, published: bool, settings: dict) -> dict:
    """Measure GFNet-H-Ti or its published form on images of one size.

    Returns:
        What :func:`run` returns. Where it is the published form, also ``difference``: the largest
        relative difference between a map of both, ``|ours - published| / |published|``, in
        float32; of a training step also ``gradient_difference``, the same of :data:`GRADIENTS`.
    """
    settings = Settings(**settings)
    x = images(size, settings.batch_size)
    model = _build_either(published, size)
    record = measure(model, (x,), settings)
    record |= _cost(model, size)
    if published:  # the larger one: where it has run, the other does
        record |= compare(size, settings)
    return record


def _build_either(published: bool, size: int) -> nn.Module:
    if published:
        model = PublishedGFNet("h-tiny", img_size=size)
    else:
        model = GFNet("h-tiny", img_size=size, drop_path_rate=0.0)
    fill(model)
    return model


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Give the weights of a GFNet-H values with which every layer matters, in place.

    They depend on names and shapes alone. Filters are those of real kernels: of others cuFFT makes
    something undefined.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        std = 0.3 if name.endswith("gamma") else 0.05 if ".mlp.fc" in name else 0.1
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        # Not in place: that would depend on how a parameter lies in memory.
        values = mean + std * torch.randn(parameter.shape, generator=generator)
        if name.endswith("complex_weight"):
            values = symmetrize_filter(values, (len(values), len(values)))
        parameter.copy_(values)


def compare(size: int, settings: Settings) -> dict:
    """Return how far GFNet-H-Ti is from its published form, see :func:`run_either`."""
    x = images(size, settings.batch_size).to(settings.device)
    maps, gradients = [], []
    for published in (False, True):  # one after the other, for large images
        model = _build_either(published, size).to(settings.device).eval()
        with torch.inference_mode():
            maps.append([out.cpu() for out in model(x)])
        if settings.train:
            sum(out.square().mean() for out in model.train()(x)).backward()
            gradients.append([model.get_parameter(name).grad.cpu() for name in GRADIENTS])
        del model
    result = {"difference": _largest_difference(*maps)}
    if settings.train:
        result["gradient_difference"] = _largest_difference(*gradients)
    return result


def _largest_difference(ours: list[Tensor], published: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, published, strict=True))
