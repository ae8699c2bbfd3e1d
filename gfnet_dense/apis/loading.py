"""Building models with trained weights: from a config and checkpoint, or a backbone from a file."""

import copy
import fnmatch
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import Tensor, nn

from gfnet_dense.checkpoint.contents import find_weights
from gfnet_dense.checkpoint.loading import load_backbone_weights, load_whole
from gfnet_dense.checkpoint.official import TRAINED, trained_weights
from gfnet_dense.checkpoint.safe_loading import read, safe_loading
from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from gfnet_dense.models.backbones.base import FilterBackbone
from gfnet_dense.models.utils.arch import Arch
from gfnet_dense.models.utils.families import FIRST_NAMES, describe_arch
from gfnet_dense.models.utils.filter_resize import check_resize_mode
from gfnet_dense.models.utils.hornet_state_dict import stored_img_size
from gfnet_dense.models.utils.state_dict import stored_grid
from gfnet_dense.models.utils.stem import stem_channels
from gfnet_dense.utils.config import find_datasets, packaged_configs, read_config
from gfnet_dense.utils.errors import InputError, building
from gfnet_dense.utils.scope import default_scope

# Models whose outputs are of no class: region proposals, depths
NAMELESS = ("RPN", "DepthEstimator")
# Parts of models that name what the box head does not count: stuff, and classes given as text
OTHER_NAMES = ("semantic_head", "language_model")


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Return the names of the models that :func:`load_model` builds, sorted.

    They are the configs of this project, without the templates for data of one's own
    (``*_own-data``), which need the data.

    Args:
        pattern: Names to return, with the wildcards of a shell: ``*_ade20k``.
        pretrained: Whether to return only those with trained weights. HorNet's authors trained
            them, not this project.

    Returns:
        The names, none if the pattern fits none.
    """
    names = [name for name in packaged_configs() if not name.endswith("_own-data")]
    return [name for name in fnmatch.filter(names, pattern) if name in TRAINED or not pretrained]


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    pretrained: bool = False,
) -> BaseModel:
    """Build a segmentor or detector, load its weights, and set it to evaluation mode.

    Args:
        config: A config for mmsegmentation or mmdetection, its path, or a name of
            :func:`list_models`.
        checkpoint: Path or http(s) address of a checkpoint saved by ``tools/train.py``, or the
            address of an official one. Reading it executes no code. Its weights must fit the
            config. If None, and not ``pretrained``, weights are random.
        device: Name of a PyTorch device that is here, such as ``cuda``.
        pretrained: Whether to load the trained weights of this name, see :func:`list_models`. They
            are downloaded once. HorNet's authors trained them, not this project.

    Returns:
        The model, with two attributes added: ``cfg``, the config, and ``dataset_meta``, a dict with
        ``classes`` and ``palette``, taken from the checkpoint if it has them, else from the test
        dataset of the config.

    Raises:
        InputError: If config or checkpoint cannot be read, or do not belong together, if there are
            no trained weights of this name, or if the device is not here.
    """
    if pretrained and checkpoint is not None:
        raise InputError("give a checkpoint or pretrained=True, not both")
    check_device(device)
    cfg = config if isinstance(config, Config) else read_config(config)
    if pretrained and cfg.filename is None:
        raise InputError(
            "a Config that was not read from a file of this project has no trained weights: give a "
            "name of list_models(pretrained=True), or a checkpoint"
        )
    if pretrained:
        checkpoint = trained_weights(str(cfg.filename))
    if checkpoint is not None:  # what is wrong with it is told before the model is built
        content, path = read(checkpoint)
    settings = copy.deepcopy(cfg.model)  # mmdet's detectors modify their config
    settings.backbone.init_cfg = None  # the checkpoint has all weights
    meta = None
    # A config may make the model read more files itself, such as a teacher's.
    with building("the config"), safe_loading(), default_scope(cfg.default_scope):
        model = MODELS.build(settings)
    if checkpoint is not None:
        weights = find_weights(content, path, model.state_dict())
        load_whole(model, weights, path)
        meta = weights.meta.get("dataset_meta")
        _check_classes(model, meta, path)
    model.cfg = cfg
    model.dataset_meta = dict(meta or _metainfo(cfg))
    palette = _palette(model.dataset_meta, cfg)  # lists of lists if it was read from JSON
    model.dataset_meta["palette"] = [tuple(map(int, color)) for color in palette]
    return model.to(device).eval()


def check_device(device: str, name: str = "device") -> None:
    """Check that a device can be used.

    Args:
        device: Name of a PyTorch device.
        name: How the user gives it, for the message.

    Raises:
        InputError: If PyTorch does not know it, or if it is not here.
    """
    try:
        torch.zeros(1, device=device)
    except (AssertionError, ImportError, RuntimeError, TypeError) as e:
        reason = re.split(r"\.\s|\n", str(e))[0]
        if "device string" in reason:  # with a list of all that some build of PyTorch knows
            reason = "PyTorch knows none of this name"
        raise InputError(
            f"{name} {device} cannot be used here ({reason}): give cpu, or cuda or cuda:NUMBER "
            "where there is a GPU"
        ) from e


def _check_classes(model: nn.Module, meta: dict[str, Any] | None, path: str | Path) -> None:
    """Raise InputError if a file names another number of classes than its model tells apart.

    Args:
        model: The model.
        meta: ``dataset_meta`` of the file, with its ``classes``; None if it has none.
        path: The file, for the message.
    """
    count = num_classes(model)
    if meta is None or count in (None, len(meta["classes"])):
        return
    raise InputError(
        f"{path} names {len(meta['classes'])} classes, and its model tells {count} apart: name "
        f"all {count} in its meta (dataset_meta, in old files CLASSES), or none, for those of the "
        "config"
    )


def num_classes(model: nn.Module) -> int | None:
    """Return the number of classes that a segmentor or detector tells apart.

    A segmentor with one output channel and a threshold tells two apart.

    Args:
        model: A model of mmsegmentation or mmdetection, or any other.

    Returns:
        The number, None if its heads do not say.
    """
    if type(model).__name__ in NAMELESS or any(hasattr(model, part) for part in OTHER_NAMES):
        return None
    roi_head = getattr(model, "roi_head", None)
    owners = (model, "decode_head"), (model, "bbox_head"), (roi_head, "bbox_head")
    heads = (getattr(owner, name, None) for owner, name in owners)
    head = next((head for head in heads if head is not None), None)
    if isinstance(head, nn.ModuleList):  # of a cascade, in which the last one decides
        head = head[-1]
    count = getattr(head, "num_classes", None)
    return 2 if count == 1 and getattr(head, "threshold", None) is not None else count


def _palette(metainfo: dict[str, Any], cfg: Config) -> Any:
    """Return colors for the classes of a file: its own, else those of the config for the same.

    mmdetection 2.x saved none. Without any, they are those that mmdet draws for a dataset that has
    no palette.
    """
    palette, classes = metainfo.get("palette") or (), list(metainfo["classes"])
    if len(palette) < len(classes):
        own = _metainfo(cfg)
        palette = own.get("palette") or () if list(own.get("classes") or ()) == classes else ()
    if len(palette) < len(classes):
        palette = random_palette(len(classes))
    return palette


def random_palette(count: int) -> list[list[int]]:
    """Return the colors, RGB, that mmdet draws for ``count`` classes without a palette."""
    return np.random.RandomState(42).randint(0, 256, (count, 3)).tolist()


def _metainfo(cfg: Config) -> dict[str, Any]:
    """Return the metainfo of the config's test dataset (classes, palette) without reading files."""
    dataset = find_datasets(cfg.test_dataloader.dataset)[0]
    with building("the data of the config"), default_scope(cfg.default_scope):
        return DATASETS.build({**dataset, "lazy_init": True}).metainfo


def load_backbone(checkpoint: str | Path, filter_resize: str = "trigonometric") -> FilterBackbone:
    """Build a backbone from a checkpoint alone, without a config, in evaluation mode.

    The arch, the number of bands and the grid of the filters are read off the shapes of the
    weights. How filters are resized and the border handling cannot be seen in a file: the first is
    given, borders are circular.

    Args:
        checkpoint: An official ImageNet file, a checkpoint of this project, an http(s) address, or
            the name of an official file, ``gfnet://ARCH`` or ``hornet://ARCH``.
        filter_resize: How filters are resized to other maps, see :func:`.resize_filter`. The
            published HorNets were trained with ``bilinear``.

    Returns:
        A GFNet or HorNet that returns the output of every stage, or an IsotropicGFNet that returns
        the outputs after each quarter of its blocks.

    Raises:
        InputError: If the file cannot be found, downloaded or read, or holds no such backbone, or
            if there is no such mode.
    """
    check_resize_mode(filter_resize)
    content, path = read(checkpoint)
    weights = find_weights(content, path, FIRST_NAMES)
    arch = describe_arch(weights.state_dict)
    in_channels = stem_channels(weights.state_dict)
    if arch is None or in_channels is None:
        raise InputError(f"{path} holds no GFNet or HorNet")
    build = _build_gfnet if arch.kind == "GFNet" else _build_hornet
    settings = dict(in_channels=in_channels, filter_resize=filter_resize)
    backbone = build(arch, weights.state_dict, path, **settings)
    load_backbone_weights(backbone, weights, path)
    return backbone.eval()


def _build_hornet(
    arch: Arch, state_dict: dict[str, Tensor], path: str | Path, **settings: Any
) -> FilterBackbone:
    return HorNet(
        dict(dims=arch.dims, depths=arch.depths, filters=arch.kind == "HorNet-GF"),
        img_size=stored_img_size(state_dict) or 224,
        out_indices=range(len(arch.dims)),
        **settings,
    )


def _build_gfnet(
    arch: Arch, state_dict: dict[str, Tensor], path: str | Path, **settings: Any
) -> FilterBackbone:
    grid = stored_grid(state_dict)
    if grid is None:
        raise InputError(f"{path} holds no filters of the first block of a GFNet")
    has_gamma = any(name.endswith(".gamma") for name in state_dict)
    scale = dict(layer_scale_init_value=1e-3 if has_gamma else None)
    if "patch_embed.proj.weight" in state_dict:
        depth = arch.depths[0]
        quarters = sorted({max(round(depth * i / 4), 1) - 1 for i in (1, 2, 3, 4)})
        return IsotropicGFNet(
            dict(dim=arch.dims[0], depth=depth, **scale),
            img_size=(16 * grid[0], 16 * grid[1]),
            out_indices=quarters,
            **settings,
        )
    return GFNet(
        dict(dims=arch.dims, depths=arch.depths, **scale),
        img_size=(4 * grid[0], 4 * grid[1]),
        out_indices=range(len(arch.dims)),
        **settings,
    )
