"""The published GFNet restated plainly from the paper and the release's key names.

The functions take an official state dict and use nothing of the package. As in the paper, blocks
work on sequences of tokens; as in the release, transforms are channels-last with norm="ortho".
"""

import torch
import torch.nn.functional as F


def official_state_dict(dims, depths, img_size=224, num_classes=1000) -> dict:
    """Return random weights under the names and shapes of the official hierarchical models."""
    state, in_dim, grid = {}, 3, img_size
    for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        patch = 4 if i == 0 else 2
        grid //= patch
        state |= _stem(f"patch_embed.{i}.", in_dim, dim, patch)
        if i == 0:
            state["pos_embed"] = 0.1 * torch.randn(1, grid * grid, dim)
        for j in range(depth):
            state |= _block(f"blocks.{i}.{j}.", dim, grid)
            state[f"blocks.{i}.{j}.gamma"] = 0.3 * torch.randn(dim)
        in_dim = dim
    return state | _head(in_dim, num_classes)


def official_isotropic_state_dict(dim, depth, img_size=224, num_classes=1000) -> dict:
    """Return random weights under the names and shapes of the official isotropic models."""
    grid = img_size // 16
    state = _stem("patch_embed.", 3, dim, 16)
    state["pos_embed"] = 0.1 * torch.randn(1, grid * grid, dim)
    for j in range(depth):
        state |= _block(f"blocks.{j}.", dim, grid)
    return state | _head(dim, num_classes)


def _stem(prefix, in_dim, dim, patch) -> dict:
    return {
        prefix + "proj.weight": 0.1 * torch.randn(dim, in_dim, patch, patch),
        prefix + "proj.bias": 0.1 * torch.randn(dim),
    }


def _block(prefix, dim, grid) -> dict:
    state = {prefix + "filter.complex_weight": 0.1 * torch.randn(grid, grid // 2 + 1, dim, 2)}
    for norm in ("norm1", "norm2"):
        state[prefix + norm + ".weight"] = 1 + 0.1 * torch.randn(dim)
        state[prefix + norm + ".bias"] = 0.1 * torch.randn(dim)
    state[prefix + "mlp.fc1.weight"] = 0.05 * torch.randn(4 * dim, dim)
    state[prefix + "mlp.fc1.bias"] = 0.1 * torch.randn(4 * dim)
    state[prefix + "mlp.fc2.weight"] = 0.05 * torch.randn(dim, 4 * dim)
    state[prefix + "mlp.fc2.bias"] = 0.1 * torch.randn(dim)
    return state


def _head(dim, num_classes) -> dict:
    return {
        "norm.weight": 1 + 0.1 * torch.randn(dim),
        "norm.bias": 0.1 * torch.randn(dim),
        "head.weight": torch.randn(num_classes, dim),
        "head.bias": torch.randn(num_classes),
    }


def _norm(state, name, tokens):
    w, b = state[name + ".weight"], state[name + ".bias"]
    return F.layer_norm(tokens, w.shape, w, b, eps=1e-6)


def _run_block(state, block, tokens, H, W):
    B, N, C = tokens.shape
    y = _norm(state, block + "norm1", tokens).view(B, H, W, C)
    y = torch.fft.rfft2(y, dim=(1, 2), norm="ortho")
    y = y * torch.view_as_complex(state[block + "filter.complex_weight"])
    y = torch.fft.irfft2(y, s=(H, W), dim=(1, 2), norm="ortho").reshape(B, N, C)
    y = _norm(state, block + "norm2", y)
    y = F.gelu(F.linear(y, state[block + "mlp.fc1.weight"], state[block + "mlp.fc1.bias"]))
    y = F.linear(y, state[block + "mlp.fc2.weight"], state[block + "mlp.fc2.bias"])
    return tokens + state.get(block + "gamma", 1) * y


def stage_maps(state: dict, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the map (B, C, H, W) after each stage; the last map comes after the final norm."""
    maps, stage = [], 0
    while f"patch_embed.{stage}.proj.weight" in state:
        w = state[f"patch_embed.{stage}.proj.weight"]
        x = F.conv2d(x, w, state[f"patch_embed.{stage}.proj.bias"], stride=w.shape[-1])
        H, W = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        if stage == 0:
            tokens = tokens + state["pos_embed"]
        j = 0
        while f"blocks.{stage}.{j}.gamma" in state:
            tokens = _run_block(state, f"blocks.{stage}.{j}.", tokens, H, W)
            j += 1
        x = tokens.transpose(1, 2).reshape(x.shape)
        stage += 1
        maps.append(x)
    maps[-1] = _norm(state, "norm", tokens).transpose(1, 2).reshape(x.shape)
    return maps


def isotropic_map(state: dict, x: torch.Tensor) -> torch.Tensor:
    """Return the map (B, C, H, W) of an isotropic model after its final norm."""
    x = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    tokens = x.flatten(2).transpose(1, 2) + state["pos_embed"]
    j = 0
    while f"blocks.{j}.norm1.weight" in state:
        tokens = _run_block(state, f"blocks.{j}.", tokens, *x.shape[2:])
        j += 1
    return _norm(state, "norm", tokens).transpose(1, 2).reshape(x.shape)
