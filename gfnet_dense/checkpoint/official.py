"""Addresses of the official checkpoints, and the configs that have trained weights.

This project trained none of the files: they are of the authors of GFNet
(https://github.com/raoyongming/GFNet#model-zoo) and HorNet (https://github.com/raoyongming/HorNet).
"""

from difflib import get_close_matches
from pathlib import Path

from gfnet_dense.utils.config import find_config, packaged_name
from gfnet_dense.utils.errors import InputError

SCHEMES = ("gfnet://", "hornet://")

_STORE = "https://cloud.tsinghua.edu.cn/f/{}/?dl=1"  # the URLs contain no file name
_GFNET = {
    "h-tiny": ("gfnet-h-ti.pth", "b22dd45eccbe462cbbfb"),
    "h-small": ("gfnet-h-s.pth", "5229cb4d1daf48e69675"),
    "h-base": ("gfnet-h-b.pth", "954c5af21e824ba6b40c"),
    "tiny": ("gfnet-ti.pth", "3d0c1579aa524a0a99dd"),
    "xsmall": ("gfnet-xs.pth", "e0ab5b1583954a1fa9b2"),
    "small": ("gfnet-s.pth", "e5561fa070c44d9399bf"),
    "base": ("gfnet-b.pth", "2fbf264597af4d72afb3"),
}
# The first four are the ImageNet files that HorNet's authors offer for dense prediction, not those
# of their classifiers; large was trained on ImageNet-22K.
_HORNET = {
    "tiny-gf": "511faad0bde94dfcaa54",
    "small-gf": "8405c984bf084d2ba85a",
    "base-gf": "6c84935e63b547f383fb",
    "large-gf": "9253bd0d50c84ab1b71e",
    "upernet-tiny-gf-ade20k": "34725e1401194786bb76",
    "upernet-small-gf-ade20k": "d37290faa8a34bc091c3",
    "upernet-base-gf-ade20k": "e50ecead21e4408187b7",
    "upernet-large-gf-ade20k": "3dbb38bae1694653a666",
    "cascade-mask-rcnn-tiny-gf-coco": "1ca353fb6ac44b54a2d8",
    "cascade-mask-rcnn-small-gf-coco": "fd9a3127b18f404d8e95",
    "cascade-mask-rcnn-base-gf-coco": "97d8587c8a0248fcac19",
    "cascade-mask-rcnn-large-gf-coco": "597f655fe9b84d50bffb",
}
# Name under which a download is kept, and its URL, by address
OFFICIAL_FILES = {
    **{f"gfnet://{arch}": (name, _STORE.format(id_)) for arch, (name, id_) in _GFNET.items()},
    **{f"hornet://{name}": (f"hornet-{name}.pth", _STORE.format(i)) for name, i in _HORNET.items()},
}

# Address of the weights of a whole model, by the name of its config
TRAINED = {
    name.format(arch): address.format(arch)
    for name, address in (
        ("upernet_hornet-{}_ade20k", "hornet://upernet-{}-ade20k"),
        ("cascade-mask-rcnn_hornet-{}_coco-3x", "hornet://cascade-mask-rcnn-{}-coco"),
    )
    for arch in ("tiny-gf", "small-gf", "base-gf", "large-gf")
}


def trained_weights(config: str | Path) -> str:
    """Return the address of the trained weights of a config of this project.

    Args:
        config: Path or name of a config, see :func:`gfnet_dense.utils.config.find_config`.

    Raises:
        InputError: If there is no such config, or no trained weights of it.
    """
    path = find_config(config)
    name = packaged_name(path)  # others may have the name of one of ours
    if name in TRAINED:
        return TRAINED[name]
    close = get_close_matches(path.resolve().stem, TRAINED, n=1)
    meant = f" (is {close[0]} meant?)" if close else ""
    raise InputError(
        f"there are no trained weights of {name or config}{meant}: give a checkpoint, or one of "
        f"the models that were trained, {', '.join(TRAINED)}"
    )
