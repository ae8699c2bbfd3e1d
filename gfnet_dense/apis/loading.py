"""Building models with trained weights: from a config and checkpoint, or a backbone from a file."""

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS

from gfnet_dense.checkpoint.contents import GFNET_NAMES, find_weights
from gfnet_dense.checkpoint.loading import load_backbone_weights, load_whole
from gfnet_dense.checkpoint.safe_loading import read, safe_loading
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.backbones.base import GFNetBackbone
from gfnet_dense.models.utils.state_dict import describe_arch, stored_grid
from gfnet_dense.models.utils.stem import stem_channels
from gfnet_dense.utils.config import find_datasets, read_config
from gfnet_dense.utils.errors import InputError, building
from gfnet_dense.utils.scope import default_scope


def load_model(
    config: str | Path | Config, checkpoint: str | Path | None, device: str = "cpu"
) -> BaseModel:
    """Build a segmentor or detector, load its weights, and set it to evaluation mode.

    Args:
        config: A config for mmsegmentation or mmdetection, or its path.
        checkpoint: Path or http(s) address of a checkpoint saved by ``tools/train.py``. Reading it
            executes no code. Its weights must fit the config. If None, weights are random.
        device: Name of a PyTorch device.

    Returns:
        The model, with two attributes added: ``cfg``, the config, and ``dataset_meta``, a dict with
        ``classes`` and ``palette``, taken from the checkpoint if it has them, else from the test
        dataset of the config.

    Raises:
        InputError: If config or checkpoint cannot be read, or do not belong together.
    """
    cfg = config if isinstance(config, Config) else read_config(config)
    settings = copy.deepcopy(cfg.model)  # mmdet's detectors modify their config
    settings.backbone.init_cfg = None  # the checkpoint has all weights
    meta = None
    # A config may make the model read more files itself, such as a teacher's.
    with building("the config"), safe_loading(), default_scope(cfg.default_scope):
        model = MODELS.build(settings)
    if checkpoint is not None:
        content, path = read(checkpoint)
        weights = find_weights(content, path, model.state_dict())
        load_whole(model, weights, path)
        meta = weights.meta.get("dataset_meta")
    model.cfg = cfg
    model.dataset_meta = dict(meta or _metainfo(cfg))
    palette = model.dataset_meta.get("palette") or []  # lists of lists if it was read from JSON
    model.dataset_meta["palette"] = [tuple(map(int, color)) for color in palette]
    return model.to(device).eval()


def _metainfo(cfg: Config) -> dict[str, Any]:
    """Return the metainfo of the config's test dataset (classes, palette) without reading files."""
    dataset = find_datasets(cfg.test_dataloader.dataset)[0]
    with building("the data of the config"), default_scope(cfg.default_scope):
        return DATASETS.build({**dataset, "lazy_init": True}).metainfo


def load_backbone(checkpoint: str | Path) -> GFNetBackbone:
    """Build a backbone from a checkpoint alone, without a config, in evaluation mode.

    The arch, the number of bands and the grid of the filters are read off the shapes of the
    weights. The border handling cannot be seen in a file: it is circular, as published.

    Args:
        checkpoint: An official ImageNet file, a checkpoint of this project, an http(s) address, or
            ``gfnet://ARCH``.

    Returns:
        A GFNet that returns the output of every stage, or an IsotropicGFNet that returns the
        outputs after each quarter of its blocks.

    Raises:
        InputError: If the file cannot be found, downloaded or read, or holds no GFNet.
    """
    content, path = read(checkpoint)
    weights = find_weights(content, path, GFNET_NAMES)
    state_dict = weights.state_dict
    arch, grid = describe_arch(state_dict), stored_grid(state_dict)
    in_channels = stem_channels(state_dict)
    if arch is None or grid is None or in_channels is None:
        raise InputError(f"{path} holds no GFNet")
    dims, depths = arch
    has_gamma = any(name.endswith(".gamma") for name in state_dict)
    scale = dict(layer_scale_init_value=1e-3 if has_gamma else None)
    backbone: GFNetBackbone
    if "patch_embed.proj.weight" in state_dict:
        depth = depths[0]
        quarters = sorted({max(round(depth * i / 4), 1) - 1 for i in (1, 2, 3, 4)})
        backbone = IsotropicGFNet(
            dict(dim=dims[0], depth=depth, **scale),
            img_size=(16 * grid[0], 16 * grid[1]),
            out_indices=quarters,
            in_channels=in_channels,
        )
    else:
        backbone = GFNet(
            dict(dims=dims, depths=depths, **scale),
            img_size=(4 * grid[0], 4 * grid[1]),
            out_indices=range(len(dims)),
            in_channels=in_channels,
        )
    load_backbone_weights(backbone, weights, path)
    return backbone.eval()
