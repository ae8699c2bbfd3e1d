"""GFNet-H in its published form, with which :class:`gfnet_dense.models.GFNet` is compared.

It is written from the paper (https://arxiv.org/abs/2107.00645) and computes the same as the release
(https://github.com/raoyongming/GFNet): tokens between blocks, channels-last transforms with "ortho"
scaling, gradients by autograd, dropout of rate 0. Both models name modules and parameters like the
release, so that a state dict of one loads into the other.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gfnet_dense.models.backbones.gfnet import ARCHS
from gfnet_dense.models.layers.block import DropPath
from gfnet_dense.models.utils.state_dict import stage_grids
from gfnet_dense.utils.types import Size


class PublishedGFNet(nn.Module):
    """GFNet-H for images of one size, with the output norms of the authors' dense models.

    Args:
        arch: ``h-tiny``, ``h-small``, ``h-base``, or a dict with ``dims`` and ``depths``.
        img_size: Side of the images or (H, W), in pixels, multiples of 32.
    """

    def __init__(self, arch: str | dict[str, Any] = "h-tiny", img_size: int | Size = 224) -> None:
        super().__init__()
        settings: dict[str, Any] = ARCHS[arch] if isinstance(arch, str) else arch
        dims, depths = settings["dims"], settings["depths"]
        grids = stage_grids(img_size, [4 * 2**i for i in range(len(dims))])
        self.patch_embed = nn.ModuleList(
            _PatchEmbed(in_dim, dim, patch_size=4 if in_dim == 3 else 2)
            for in_dim, dim in zip((3, *dims), dims, strict=False)
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, grids[0][0] * grids[0][1], dims[0]))
        self.pos_drop = nn.Dropout(0.0)
        self.blocks = nn.ModuleList(
            nn.ModuleList(_Block(dim, grid) for _ in range(depth))
            for dim, depth, grid in zip(dims, depths, grids, strict=True)
        )
        for i, dim in enumerate(dims):
            self.add_module(f"norm{i}", nn.LayerNorm(dim, eps=1e-6))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the normalized maps (B, dim, H, W) of all stages, for images (B, 3, H, W)."""
        outs = []
        for i, (embed, blocks) in enumerate(zip(self.patch_embed, self.blocks, strict=True)):
            tokens, (H, W) = embed(x)
            if i == 0:
                tokens = self.pos_drop(tokens + self.pos_embed)
            for block in blocks.children():
                tokens = block(tokens, (H, W))
            normed = getattr(self, f"norm{i}")(tokens)
            outs.append(_to_map(normed, (H, W)).contiguous())
            x = _to_map(tokens, (H, W))
        return tuple(outs)


def _to_map(tokens: Tensor, size: Size) -> Tensor:  # (B, N, dim) to (B, dim, H, W)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)


class _PatchEmbed(nn.Module):
    def __init__(self, in_dim: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:  # to tokens (B, N, dim) and (H, W)
        x = self.proj(x)
        H, W = x.shape[2:]
        return x.flatten(2).transpose(1, 2), (H, W)


class _Block(nn.Module):
    def __init__(self, dim: int, size: Size) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.filter = _GlobalFilter(dim, size)
        self.drop_path = DropPath(0.0)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = _Mlp(dim, 4 * dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, size: Size) -> Tensor:  # (B, N, dim)
        y = self.mlp(self.norm2(self.filter(self.norm1(x), size)))
        return x + self.drop_path(self.gamma * y)


class _GlobalFilter(nn.Module):
    def __init__(self, dim: int, size: Size) -> None:
        super().__init__()
        h, w = size
        self.complex_weight = nn.Parameter(torch.randn(h, w // 2 + 1, dim, 2) * 0.02)

    def forward(self, x: Tensor, size: Size) -> Tensor:  # (B, N, dim)
        B, N, C = x.shape
        x = x.view(B, *size, C).float()
        x = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        x = x * torch.view_as_complex(self.complex_weight)
        x = torch.fft.irfft2(x, s=size, dim=(1, 2), norm="ortho")
        return x.reshape(B, N, C)


class _Mlp(nn.Module):
    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
