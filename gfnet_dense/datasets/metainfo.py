"""Metainfo of datasets inside wrappers.

The private ``_metainfo`` of mmengine's BaseDataset is set here, as seen in onedl-mmengine 0.10.12.
"""

from typing import Any


def join_metainfo(dataset: Any) -> None:
    """Give a dataset one metainfo, in place, where its parts name the same classes.

    mmdetection's ConcatDataset has a list of dicts if its parts differ in anything, such as a list
    and a tuple of the same names. Checkpoints, predictions and pictures need one dict.

    Args:
        dataset: An OpenMMLab dataset, possibly inside wrappers such as ConcatDataset.
    """
    metainfo = getattr(dataset, "metainfo", None)
    if isinstance(metainfo, list):
        first = metainfo[0]
        if all(_names(each) == _names(first) for each in metainfo):
            dataset._metainfo = first
    inner = getattr(dataset, "dataset", None)
    for each in [inner] if inner is not None else getattr(dataset, "datasets", ()):
        join_metainfo(each)


def _names(metainfo: dict) -> list[str]:
    return list(metainfo.get("classes") or ())
