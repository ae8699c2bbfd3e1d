"""Trained models in one call."""

import copy
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.checkpoint.loading import load_pretrained, load_whole, unwrap, use_safe_loading
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.backbones.base import GFNetBackbone
from gfnet_dense.models.utils.state_dict import describe_arch, stored_grid
from gfnet_dense.utils.config import find_datasets, read_config
from gfnet_dense.utils.errors import InputError, building


def load_model(
    config: str | Path | Config, checkpoint: str | Path | None, device: str = "cpu"
) -> nn.Module:
    """Return a segmentor or detector in evaluation mode.

    Args:
        config: A config of mmsegmentation or mmdetection, or its path.
        checkpoint: What ``tools/train.py`` saved: a path or an http(s) address. It is read as data
            and must fit the config. None: random weights.
        device: PyTorch's name of it.

    Returns:
        The model, with ``cfg``, the config, and ``dataset_meta``, classes and palette: those that
        the checkpoint tells, else those of the config's test dataset.

    Raises:
        InputError: If config or checkpoint cannot be read, or do not belong together.
    """
    cfg = config if isinstance(config, Config) else read_config(config)
    use_safe_loading()  # of what a model reads that it is built of, such as a teacher
    init_default_scope(cfg.default_scope)
    settings = copy.deepcopy(cfg.model)  # mmdet's detectors change theirs, too
    settings.backbone.init_cfg = None  # all weights are in the checkpoint
    meta = None
    with building("the config"):
        model = MODELS.build(settings)
    if checkpoint is not None:
        path = fetch(str(checkpoint))
        content = read_checkpoint(path)
        load_whole(model, content.get("state_dict", content), path)
        meta = content.get("meta", {}).get("dataset_meta")
    model.cfg = cfg
    model.dataset_meta = dict(meta or _metainfo(cfg))
    palette = model.dataset_meta.get("palette") or []  # lists of lists out of JSON
    model.dataset_meta["palette"] = [tuple(map(int, color)) for color in palette]
    return model.to(device).eval()


def _metainfo(cfg: Config) -> dict:
    """Return classes and palette of the test dataset; its files are not looked at."""
    dataset = find_datasets(cfg.test_dataloader.dataset)[0]
    with building("the data of the config"):
        return DATASETS.build({**dataset, "lazy_init": True}).metainfo


def load_backbone(checkpoint: str | Path) -> GFNetBackbone:
    """Return the backbone that a file alone describes, in evaluation mode, all outputs built.

    Args:
        checkpoint: An official ImageNet file, a checkpoint of ours, ``gfnet://ARCH``. Filters and
            position embedding stay on the grid of the file. What a file does not tell is taken as
            published: circular borders.

    Raises:
        InputError: If it cannot be had, or holds no GFNet.
    """
    path = fetch(str(checkpoint))
    state_dict = unwrap(read_checkpoint(path))
    arch, grid = describe_arch(state_dict), stored_grid(state_dict)
    if arch is None or grid is None:
        raise InputError(f"{path} holds no GFNet")
    (dims, depths), has_gamma = arch, any(name.endswith(".gamma") for name in state_dict)
    scale = dict(layer_scale_init_value=1e-3 if has_gamma else None)
    if "patch_embed.proj.weight" in state_dict:
        depth = depths[0]
        quarters = sorted({max(round(depth * i / 4), 1) - 1 for i in (1, 2, 3, 4)})
        backbone = IsotropicGFNet(
            dict(dim=dims[0], depth=depth, **scale),
            img_size=tuple(16 * n for n in grid),
            out_indices=quarters,
        )
    else:
        backbone = GFNet(
            dict(dims=dims, depths=depths, **scale),
            img_size=tuple(4 * n for n in grid),
            out_indices=range(len(dims)),
        )
    load_pretrained(backbone, str(path))
    return backbone.eval()
