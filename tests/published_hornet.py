"""The published HorNet restated plainly from the paper and the release's key names.

As in tests/published.py, the functions take an official state dict; maps are (B, C, H, W) as in the
release. Depths, orders and the kind of the depth-wise layer are read off the names.
"""

from itertools import count, takewhile

import torch
import torch.nn.functional as F

ORDERS = (2, 3, 4, 5)
DEPTHS = (2, 3, 18, 2)  # of all published models


def dims_of(width) -> tuple:
    """Return the widths of the stages of a model, which is named by the first."""
    return tuple(width * 2**i for i in range(4))


def official_hornet_shapes(dims, depths, filters=True, img_size=224, num_classes=1000) -> dict:
    """Return the names and shapes of the tensors of the official classifiers."""
    shapes, in_dim = {}, 3
    for i, (dim, depth, order) in enumerate(zip(dims, depths, ORDERS, strict=True)):
        conv, norm, size = ("0", "1", 4) if i == 0 else ("1", "0", 2)
        shapes |= _layer(f"downsample_layers.{i}.{conv}", dim, in_dim, size, size)
        shapes |= _layer(f"downsample_layers.{i}.{norm}", dim if i == 0 else in_dim)
        grid = img_size // 2 ** (i + 2) if filters and i >= 2 else None
        for j in range(depth):
            shapes |= _block(f"stages.{i}.{j}.", dim, order, grid)
        in_dim = dim
    return shapes | _layer("norm", in_dim) | _layer("head", num_classes, in_dim)


def official_hornet_state_dict(dims, depths, filters=True, img_size=224, num_classes=1000) -> dict:
    """Return random weights under the names and shapes of the official classifiers."""
    shapes = official_hornet_shapes(dims, depths, filters, img_size, num_classes)
    return {name: random_weight(name, shape) for name, shape in shapes.items()}


def dense_hornet_state_dict(dims, depths, filters=True, img_size=224) -> dict:
    """Return random weights of the backbone of a dense model, with a norm for each output."""
    state = official_hornet_state_dict(dims, depths, filters, img_size)
    state = {n: w for n, w in state.items() if not n.startswith(("norm.", "head."))}
    for i, dim in enumerate(dims):
        shapes = _layer(f"norm{i}", dim)
        state |= {name: random_weight(name, shape) for name, shape in shapes.items()}
    return state


def random_weight(name, shape) -> torch.Tensor:
    """Return random weights with which maps keep their scale from block to block."""
    w, kind = torch.randn(shape), name.rpartition(".")[2]
    if kind in ("gamma1", "gamma2"):
        return 0.3 * w
    if kind == "complex_weight":
        return 0.5 * w
    if kind == "bias":
        return 0.1 * w
    return 1 + 0.1 * w if w.ndim == 1 else w / w[0].numel() ** 0.5


def _layer(name, *shape) -> dict:
    return {name + ".weight": shape, name + ".bias": shape[:1]}


def _block(prefix, dim, order, grid) -> dict:
    widths = [dim // 2 ** (order - 1 - k) for k in range(order)]
    width = sum(widths)
    shapes = {prefix + "gamma1": (dim,), prefix + "gamma2": (dim,)}
    shapes |= _layer(prefix + "norm1", dim) | _layer(prefix + "norm2", dim)
    shapes |= _layer(prefix + "gnconv.proj_in", 2 * dim, dim, 1, 1)
    shapes |= _layer(prefix + "gnconv.proj_out", dim, dim, 1, 1)
    dwconv = prefix + "gnconv.dwconv"
    if grid is None:
        shapes |= _layer(dwconv, width, 1, 7, 7)
    else:
        shapes[dwconv + ".complex_weight"] = (width // 2, grid, grid // 2 + 1, 2)
        shapes[dwconv + ".dw.weight"] = (width // 2, 1, 3, 3)
        shapes |= _layer(dwconv + ".pre_norm", width) | _layer(dwconv + ".post_norm", width)
    for k in range(order - 1):
        shapes |= _layer(f"{prefix}gnconv.pws.{k}", widths[k + 1], widths[k], 1, 1)
    shapes |= _layer(prefix + "pwconv1", 4 * dim, dim)
    return shapes | _layer(prefix + "pwconv2", dim, 4 * dim)


def hornet_stages(state: dict, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the map (B, C, H, W) behind the blocks of each stage, before any norm of an output."""
    maps = []
    for i in range(4):
        if i == 0:
            x = _norm(state, "downsample_layers.0.1", _conv(state, "downsample_layers.0.0", x, 4))
        else:
            x = _norm(state, f"downsample_layers.{i}.0", x)
            x = _conv(state, f"downsample_layers.{i}.1", x, 2)
        for block in _numbered(state, f"stages.{i}.{{}}.", "gamma1"):
            x = _run_block(state, block, x)
        maps.append(x)
    return maps


def hornet_outputs(state: dict, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the maps of a dense model, each behind its own norm ``norm0`` to ``norm3``."""
    return [_norm(state, f"norm{i}", y) for i, y in enumerate(hornet_stages(state, x))]


def _numbered(state, name, tensor):
    """Return the names with the numbers 0, 1, 2, ... for as long as they have the tensor."""
    return takewhile(lambda prefix: prefix + tensor in state, map(name.format, count()))


def _conv(state, name, x, stride=1, **kwargs):
    return F.conv2d(x, state[name + ".weight"], state.get(name + ".bias"), stride, **kwargs)


def _norm(state, name, x):
    w, b = state[name + ".weight"], state[name + ".bias"]
    return F.layer_norm(x.permute(0, 2, 3, 1), w.shape, w, b, eps=1e-6).permute(0, 3, 1, 2)


def _run_block(state, block, x):
    y = _gnconv(state, block + "gnconv.", _norm(state, block + "norm1", x))
    x = x + state[block + "gamma1"][:, None, None] * y
    y = _norm(state, block + "norm2", x).permute(0, 2, 3, 1)
    y = F.gelu(F.linear(y, state[block + "pwconv1.weight"], state[block + "pwconv1.bias"]))
    y = F.linear(y, state[block + "pwconv2.weight"], state[block + "pwconv2.bias"])
    return x + (state[block + "gamma2"] * y).permute(0, 3, 1, 2)


def _gnconv(state, gnconv, x):
    projections = list(_numbered(state, gnconv + "pws.{}", ".weight"))
    widths = [x.shape[1] // 2**k for k in range(len(projections), -1, -1)]
    y, gates = _conv(state, gnconv + "proj_in", x).split([widths[0], sum(widths)], dim=1)
    if gnconv + "dwconv.weight" in state:
        gates = _conv(state, gnconv + "dwconv", gates, padding=3, groups=gates.shape[1])
    else:
        gates = _global_local_filter(state, gnconv + "dwconv.", gates)
    first, *rest = (gates / 3).split(widths, dim=1)
    y = y * first
    for projection, gate in zip(projections, rest, strict=True):
        y = _conv(state, projection, y) * gate
    return _conv(state, gnconv + "proj_out", y)


def _global_local_filter(state, layer, x):
    local, far = _norm(state, layer + "pre_norm", x).chunk(2, dim=1)
    local = _conv(state, layer + "dw", local, padding=1, groups=local.shape[1])
    far = global_filter(far, state[layer + "complex_weight"])
    return _norm(state, layer + "post_norm", torch.stack([local, far], 2).reshape(x.shape))


def global_filter(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Filter a map with a half spectrum (C, h, w // 2 + 1, 2), resized as the release does."""
    H, W = x.shape[2:]
    if weight.shape[1:3] != (H, W // 2 + 1):
        weight = F.interpolate(
            weight.permute(3, 0, 1, 2), (H, W // 2 + 1), mode="bilinear", align_corners=True
        ).permute(1, 2, 3, 0)
    y = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(weight.contiguous())
    return torch.fft.irfft2(y, s=(H, W), norm="ortho")
