"""The published GFNet-H restated plainly from the paper and the release's key names.

Independent of the package: functions of an official state dict, with the paper's token sequences
and the release's channels-last 'ortho' transforms.
"""

import torch
import torch.nn.functional as F


def official_state_dict(dims, depths, img_size=224, num_classes=1000) -> dict:
    """Return random weights under the names and shapes of the official release."""
    state, in_dim, grid = {}, 3, img_size
    for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        patch = 4 if i == 0 else 2
        grid //= patch
        state[f"patch_embed.{i}.proj.weight"] = 0.1 * torch.randn(dim, in_dim, patch, patch)
        state[f"patch_embed.{i}.proj.bias"] = 0.1 * torch.randn(dim)
        if i == 0:
            state["pos_embed"] = 0.1 * torch.randn(1, grid * grid, dim)
        for j in range(depth):
            block = f"blocks.{i}.{j}."
            state[block + "filter.complex_weight"] = 0.1 * torch.randn(grid, grid // 2 + 1, dim, 2)
            for norm in ("norm1", "norm2"):
                state[block + norm + ".weight"] = 1 + 0.1 * torch.randn(dim)
                state[block + norm + ".bias"] = 0.1 * torch.randn(dim)
            state[block + "mlp.fc1.weight"] = 0.05 * torch.randn(4 * dim, dim)
            state[block + "mlp.fc1.bias"] = 0.1 * torch.randn(4 * dim)
            state[block + "mlp.fc2.weight"] = 0.05 * torch.randn(dim, 4 * dim)
            state[block + "mlp.fc2.bias"] = 0.1 * torch.randn(dim)
            state[block + "gamma"] = 0.3 * torch.randn(dim)
        in_dim = dim
    state["norm.weight"] = 1 + 0.1 * torch.randn(in_dim)
    state["norm.bias"] = 0.1 * torch.randn(in_dim)
    state["head.weight"] = torch.randn(num_classes, in_dim)
    state["head.bias"] = torch.randn(num_classes)
    return state


def stage_maps(state: dict, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the map (B, C, H, W) behind each stage; the last one behind the final norm."""
    maps, stage = [], 0

    def norm(tokens, name):
        w, b = state[name + ".weight"], state[name + ".bias"]
        return F.layer_norm(tokens, w.shape, w, b, eps=1e-6)

    while f"patch_embed.{stage}.proj.weight" in state:
        w = state[f"patch_embed.{stage}.proj.weight"]
        x = F.conv2d(x, w, state[f"patch_embed.{stage}.proj.bias"], stride=w.shape[-1])
        B, C, H, W = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        if stage == 0:
            tokens = tokens + state["pos_embed"]
        j = 0
        while f"blocks.{stage}.{j}.gamma" in state:
            block = f"blocks.{stage}.{j}."
            y = norm(tokens, block + "norm1").view(B, H, W, C)
            y = torch.fft.rfft2(y, dim=(1, 2), norm="ortho")
            y = y * torch.view_as_complex(state[block + "filter.complex_weight"])
            y = torch.fft.irfft2(y, s=(H, W), dim=(1, 2), norm="ortho").reshape(B, H * W, C)
            y = norm(y, block + "norm2")
            y = F.linear(y, state[block + "mlp.fc1.weight"], state[block + "mlp.fc1.bias"])
            y = F.gelu(y)
            y = F.linear(y, state[block + "mlp.fc2.weight"], state[block + "mlp.fc2.bias"])
            tokens = tokens + state[block + "gamma"] * y
            j += 1
        x = tokens.transpose(1, 2).reshape(B, C, H, W)
        stage += 1
        maps.append(x)
    maps[-1] = norm(tokens, "norm").transpose(1, 2).reshape(x.shape)
    return maps
