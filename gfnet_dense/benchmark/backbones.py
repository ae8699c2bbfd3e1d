"""Benchmark cases of backbones over image sizes: GFNet-H, other backbones, GFNet-H as published."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from gfnet_dense.models import GFNet
from gfnet_dense.models.utils.filter_resize import symmetrize_filter
from gfnet_dense.utils.errors import InputError

from .complexity import count_flops
from .measure import Settings, measure, tf32
from .published import PublishedGFNet
from .sweep import Case

# mmsegmentation's configs have SyncBN, which synchronizes several GPUs: a benchmark has one device.
BN = dict(type="BN")
_MIT: dict[str, Any] = dict(
    type="mmseg.MixVisionTransformer",
    embed_dims=64,
    num_heads=[1, 2, 5, 8],
    patch_sizes=[7, 3, 3, 3],
    sr_ratios=[8, 4, 2, 1],
    mlp_ratio=4,
    qkv_bias=True,
    drop_path_rate=0.1,
)

PLAIN, PUBLISHED = "GFNet-H-Ti-plain", "published"  # series of other forms of GFNet-H-Ti

# Settings are those of mmsegmentation's configs (PVT-S: mmdetection's). All return four maps of
# strides 4, 8, 16 and 32.
CONFIGS: dict[str, dict[str, Any]] = {
    # Filters are stored for the usual training crop, and resized for images of another size.
    "GFNet-H-Ti": dict(type="gfnet_dense.GFNet", arch="h-tiny", img_size=512),
    # The same without the fast inference path, see build()
    PLAIN: dict(type="gfnet_dense.GFNet", arch="h-tiny", img_size=512),
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

# Parameters for which the gradients of both forms are compared
GRADIENTS = ("blocks.0.0.filter.complex_weight", "blocks.3.2.mlp.fc1.weight")
# Modules of torchvision that mmpretrain imports
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
        names: Some of :data:`NAMES`. None: every backbone that can be built here. The others are
            left out, and the reason is printed.
        sizes: Sides of the square images in pixels.
        settings: How each backbone is run.

    Raises:
        InputError: For an unknown name, or a named backbone whose library is not installed.
    """
    if unknown := [name for name in names or () if name not in CONFIGS]:
        raise InputError(f"the backbones here are {', '.join(NAMES)}, got {unknown[0]}")
    for name in names or ():
        if reason := why_not(name):
            raise InputError(f"{name} cannot be had here: {reason}")
    return [
        Case(name, size, run, dict(name=name, settings=asdict(settings)))
        for name in dict.fromkeys(names or available(NAMES))
        for size in sizes
    ]


def available(names: Sequence[str]) -> list[str]:
    """Return those of :data:`NAMES` that can be built here, and print why others are left out."""
    reasons = {name: why_not(name) for name in names}
    for name, reason in reasons.items():
        if reason:
            print(f"{name} is left out: {reason}")
    return [name for name, reason in reasons.items() if not reason]


def why_not(name: str) -> str:
    """Return the reason why a backbone cannot be built here, or an empty string if it can."""
    return why_not_library(CONFIGS[name]["type"].partition(".")[0])


def why_not_library(library: str) -> str:
    """Return the reason why a library's models cannot be imported, or an empty string."""
    try:
        import_models(library)
    except Exception as e:  # missing or outdated dependencies raise errors of any type
        text = " ".join(str(e).split())
        return f"{library} cannot be imported ({type(e).__name__}: {text})"
    return ""


def import_models(library: str) -> None:
    """Register the models of a library; torchvision, if it is missing, is mocked for mmpretrain."""
    if library != "mmpretrain":
        import_module(f"{library}.models")
        return
    # mmpretrain uses torchvision only to transform images, and PyPI's torchvision does not work
    # with a CPU build of PyTorch. Backbones do not need torchvision, so mocks are enough.
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
    """Return an untrained backbone of :data:`NAMES`.

    :data:`PLAIN` is kept from the fast inference path, see :func:`_run_blocks_one_by_one`.
    """
    import_models(CONFIGS[name]["type"].partition(".")[0])
    model = MODELS.build(dict(CONFIGS[name]))
    if name == PLAIN:
        _run_blocks_one_by_one(model)
    return model


def _run_blocks_one_by_one(model: nn.Module) -> None:
    """Keep a GFNet from :mod:`gfnet_dense.models.backbones.fast_inference`, by a hook."""
    model.get_submodule("norm0").register_forward_hook(lambda *_: None)


def images(size: int, batch_size: int, channels: int = 3) -> Tensor:
    """Return the same noise in every call, float32 of shape (batch_size, channels, size, size)."""
    shape = batch_size, channels, size, size
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def run(size: int, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one backbone on square images of one size.

    Args:
        size: Side of the images in pixels.
        name: One of :data:`NAMES`.
        settings: Fields of :class:`.measure.Settings`.

    Returns:
        The record of :func:`.measure.measure`, and ``params``, the number of parameters, and
        ``flops``, the multiply-adds of a forward of one image, Fourier transforms included.
    """
    run_settings = Settings(**settings)
    model = build(name)
    record = measure(model, (images(size, run_settings.batch_size),), run_settings)
    return record | _cost(model, size)


def _cost(model: nn.Module, size: int) -> dict[str, int]:
    """Count parameters and FLOPs; ``model`` moves to the meta device, where it has no weights."""
    # eval() of some OpenMMLab backbones returns None; eval() of a container returns the container.
    flops = count_flops(nn.Sequential(model.to("meta")), (size, size))
    return {"params": sum(p.numel() for p in model.parameters()), "flops": flops.total}


def published_cases(sizes: Sequence[int], settings: Settings) -> list[Case]:
    """Return cases of GFNet-H-Ti and of its published form, with the same weights.

    Without ``settings.train`` there are also cases of GFNet-H-Ti without its fast inference path.
    All store their filters for the size of the images, since the published form resizes none.

    Args:
        sizes: Sides of the square images in pixels.
        settings: How all are run.

    Raises:
        InputError: For a size that is not a positive multiple of 32.
    """
    for size in sizes:
        if size % 32 or size <= 0:
            raise InputError(
                f"the published form takes images whose sides are multiples of 32, got {size}"
            )
    return [
        Case(series, size, run_comparison, dict(series=series, settings=asdict(settings)))
        for series in ("GFNet-H-Ti", *([] if settings.train else [PLAIN]), PUBLISHED)
        for size in sizes
    ]


def run_comparison(size: int, series: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one form of GFNet-H-Ti on square images of one size.

    Args:
        size: Side of the images in pixels.
        series: ``GFNet-H-Ti``; :data:`PLAIN`; or :data:`PUBLISHED`, whose outputs are compared with
            those of GFNet-H-Ti.
        settings: Fields of :class:`.measure.Settings`.

    Returns:
        The record of :func:`run`, and for the published form the record of :func:`compare` as well.
    """
    run_settings = Settings(**settings)
    x = images(size, run_settings.batch_size)
    model = _build_gfnet(series == PUBLISHED, size)
    if series == PLAIN:
        _run_blocks_one_by_one(model)
    record = measure(model, (x,), run_settings)
    record |= _cost(model, size)
    if series == PUBLISHED:  # it needs more memory: if it has run, GFNet-H-Ti runs as well
        record |= compare(size, run_settings)
    return record


def _build_gfnet(published: bool, size: int) -> nn.Module:
    model: nn.Module
    if published:
        model = PublishedGFNet("h-tiny", img_size=size)
    else:
        model = GFNet("h-tiny", img_size=size, drop_path_rate=0.0)
    fill(model)
    return model


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Set the weights of a GFNet-H in place, so that each layer has a visible effect on the output.

    Values depend only on the names and shapes of the parameters, so that both forms get the same.
    Filters are those of real kernels, since cuFFT's result is undefined for other filters.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        std = 0.3 if name.endswith("gamma") else 0.05 if ".mlp.fc" in name else 0.1
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        # parameter.normal_() would give values that depend on its memory layout.
        values = mean + std * torch.randn(parameter.shape, generator=generator)
        if name.endswith("complex_weight"):
            values = symmetrize_filter(values, (len(values), len(values)))
        parameter.copy_(values)


def compare(size: int, settings: Settings) -> dict[str, float]:
    """Return relative differences between GFNet-H-Ti and its published form, in float32, not TF32.

    Args:
        size: Side of the square images in pixels.
        settings: ``device``, ``batch_size`` and ``train`` are used.

    Returns:
        ``difference``, the largest ``|ours - published| / |published|`` (Euclidean norms) over the
        output maps; with ``settings.train`` also ``gradient_difference``, the largest over the
        gradients of :data:`GRADIENTS`.
    """
    x = images(size, settings.batch_size).to(settings.device)
    maps, gradients = [], []
    for published in (False, True):  # one model at a time, to save memory
        model = _build_gfnet(published, size).to(settings.device).eval()
        with tf32(False):
            with torch.inference_mode():
                maps.append([out.cpu() for out in model(x)])
            if settings.train:
                sum(out.square().mean() for out in model.train()(x)).backward()
                parameters = [model.get_parameter(name) for name in GRADIENTS]
                gradients.append([p.grad.cpu() for p in parameters])  # type: ignore[union-attr]
        del model
    result = {"difference": largest_difference(*maps)}
    if settings.train:
        result["gradient_difference"] = largest_difference(*gradients)
    return result


def largest_difference(ours: list[Tensor], published: list[Tensor]) -> float:
    """Return the largest ``|ours - published| / |published|`` (Euclidean norms) of the pairs."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, published, strict=True))
