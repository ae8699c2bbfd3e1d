"""Whole models with which a config's own is compared: those that people would pick, stock heads.

The configs of these models are those that the installed libraries bring along, with the number of
classes of the config that they are compared with.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from gfnet_dense.demo.scaling import change_values
from gfnet_dense.utils.config import (
    packaged_configs,
    read_config,
    registered_class,
    typed_configs,
)
from gfnet_dense.utils.errors import InputError

from .backbones import why_not_library

STOCK_HEADS = "stock-heads"  # the config itself, with the heads and necks of its library
PACKAGE = "gfnet_dense."  # beginning of the names of our modules and of the types that we register


@dataclass(frozen=True)
class Peer:
    """A model of mmsegmentation or mmdetection.

    Attributes:
        library: ``mmseg`` or ``mmdet``, for segmentors and detectors.
        config: Its config, within the configs of the library.
        also: Another library, which has its backbone.
        backbone: A config of that library whose backbone it has, with the channels of its maps;
            None for the backbone in ``config``.
    """

    library: str
    config: str
    also: str | None = None
    backbone: str | None = None


PEERS = {
    "UPerNet-Swin-T": Peer(
        "mmseg", "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"
    ),
    "UPerNet-ConvNeXt-T": Peer(
        "mmseg", "convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py", "mmpretrain"
    ),
    "UPerNet-ResNet-50": Peer("mmseg", "upernet/upernet_r50_4xb4-160k_ade20k-512x512.py"),
    "PSPNet-ResNet-50": Peer("mmseg", "pspnet/pspnet_r50-d8_4xb4-160k_ade20k-512x512.py"),
    "SegFormer-B1": Peer("mmseg", "segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py"),
    "SegFormer-B2": Peer("mmseg", "segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py"),
    "SegNeXt-T": Peer("mmseg", "segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py"),
    "SegNeXt-S": Peer("mmseg", "segnext/segnext_mscan-s_1xb16-adamw-160k_ade20k-512x512.py"),
    # No library has this config: PVT's authors train Semantic FPN as mmsegmentation has it.
    "SemanticFPN-PVT-S": Peer(
        "mmseg",
        "sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py",
        "mmdet",
        "pvt/retinanet_pvt-s_fpn_1x_coco.py",
    ),
    "MaskRCNN-Swin-T": Peer("mmdet", "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py"),
    "MaskRCNN-ResNet-50": Peer("mmdet", "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"),
}


def rivals(names: Sequence[str], cfg: Config) -> list[str]:
    """Return the models with which a config's own is compared, and print why others are left out.

    Args:
        names: ``stock-heads``, some of :data:`PEERS`, and names of configs of this project; none
            stands for the first two, as far as they are of the config's task.
        cfg: The config.

    Raises:
        InputError: For an unknown name, one of the other task, or a named model that cannot be
            built here.
    """
    task = "mmseg" if is_segmentor(cfg) else "mmdet"
    choice = [STOCK_HEADS, *(name for name, peer in PEERS.items() if peer.library == task)]
    ours = [name for name in names if name in packaged_configs()]
    if unknown := [name for name in names if name not in (*choice, *ours)]:
        kind = "segmentor" if task == "mmseg" else "detector"
        raise InputError(
            f"a {kind} is measured against {', '.join(choice)} and the configs of this project, "
            f"got {unknown[0]}"
        )
    reasons = {name: why_not(name, cfg) for name in dict.fromkeys(names or choice)}
    for name, reason in reasons.items():
        if reason and names:
            raise InputError(f"{name} cannot be had here: {reason}")
        if reason:
            print(f"{name} is left out: {reason}")
    return [name for name, reason in reasons.items() if not reason]


def why_not(name: str, cfg: Config) -> str:
    """Return the reason why a model cannot be compared with a config's, or an empty string."""
    try:
        rival_config(name, cfg)
    except InputError as e:
        return str(e)
    return ""


def rival_config(name: str, cfg: Config) -> Config:
    """Return the config of a model that is compared with a config's own.

    Args:
        name: See :func:`rivals`.
        cfg: The config, whose number of classes the model gets.

    Raises:
        InputError: If there is no such model here.
    """
    if name == STOCK_HEADS:
        return with_stock_heads(cfg)
    rival = _read_peer(PEERS[name]) if name in PEERS else read_config(name)
    if is_segmentor(rival) != is_segmentor(cfg):
        raise InputError("it is a model for another task")
    if number := classes_of(cfg.model):
        change_values(rival.model, {"num_classes": lambda _: number})
    return rival


def _read_peer(peer: Peer) -> Config:
    for library in filter(None, (peer.library, peer.also)):
        if reason := why_not_library(library):
            raise InputError(reason)
    rival = read_config(_find(peer.library, peer.config))
    if peer.also and peer.backbone:
        other = read_config(_find(peer.also, peer.backbone)).model
        rival.model.backbone = dict(other.backbone, type=f"{peer.also}.{other.backbone.type}")
        rival.model.neck.in_channels = other.neck.in_channels
        rival.model.pretrained = None  # the weights of the former backbone
    return rival


def _find(library: str, config: str) -> Path:
    """Return the path of a config in an installed library, where OpenMMLab's wheels have them."""
    spec = find_spec(library)
    assert spec is not None and spec.origin is not None  # its models have been imported
    path = Path(spec.origin).parent / ".mim" / "configs" / config
    if not path.is_file():
        raise InputError(f"{library} was installed without its configs: {path} does not exist")
    return path


def is_segmentor(cfg: Config) -> bool:
    """Return whether a config is that of a segmentor of mmsegmentation."""
    return "decode_head" in cfg.model


def classes_of(model: ConfigDict) -> int | None:
    """Return the number of classes in the config of a segmentor or detector, None if not found."""
    heads = [model[key] for key in ("decode_head", "roi_head", "bbox_head") if model.get(key)]
    return next(_numbers(heads), None)


def _numbers(node: Any) -> Iterator[int]:
    if isinstance(node, dict):
        if "num_classes" in node:
            yield node["num_classes"]
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for each in node:
            yield from _numbers(each)


def with_stock_heads(cfg: Config) -> Config:
    """Return a config in which each head and neck of this package is the one that it derives from.

    Arguments and keys of weights are the same, see :func:`stock_class`.

    Raises:
        InputError: If the config has no such head or neck.
    """
    cfg = deepcopy(cfg)
    found = False
    for node in typed_configs(cfg.model):
        kind = node["type"]
        name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
        if name.startswith(PACKAGE):
            stock = stock_class(registered_class(MODELS, node, cfg.default_scope))
            if stock is not None:
                node["type"], found = stock, True
    if not found:
        raise InputError(
            "the config has no head or neck of this package, which could be compared with the one "
            'of its library: take such a head, decode_head=dict(type="gfnet_dense.UPerHead", ...)'
        )
    return cfg


def stock_class(cls: Any) -> Any:
    """Return the class of mmsegmentation or mmdetection from which one of ours derives.

    It is the first one in the method resolution order that is not of this package; None if that is
    of another library, as of backbones.
    """
    base = next(base for base in cls.__mro__ if not f"{base.__module__}.".startswith(PACKAGE))
    return base if base.__module__.partition(".")[0] in ("mmseg", "mmdet") else None
