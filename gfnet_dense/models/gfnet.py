"""Hierarchical GFNet as a backbone for dense prediction.

Paper: Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021
(https://arxiv.org/abs/2107.00645), and "GFNet: Global Filter Networks for Visual Recognition",
T-PAMI 2023. Modules and parameters carry the names of the official release
(https://github.com/raoyongming/GFNet), so that its files load without a key map.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..checkpoints import load_pretrained
from ..errors import InputError
from ..registry import MODELS
from .global_filter import GlobalFilter
from .loading import adapt_state_dict
from .resample import Size, resize_position_embedding

# drop_path_rate: the one of the ImageNet training. layer_scale_init_value: of gamma.
ARCHS = {
    "h-tiny": dict(
        dims=(64, 128, 256, 512),
        depths=(3, 3, 10, 3),
        drop_path_rate=0.1,
        layer_scale_init_value=1e-3,
    ),
    "h-small": dict(
        dims=(96, 192, 384, 768),
        depths=(3, 3, 10, 3),
        drop_path_rate=0.2,
        layer_scale_init_value=1e-5,
    ),
    "h-base": dict(
        dims=(96, 192, 384, 768),
        depths=(3, 3, 27, 3),
        drop_path_rate=0.4,
        layer_scale_init_value=1e-6,
    ),
}


class DropPath(nn.Module):
    """Stochastic depth: drop the residual branch of a sample (https://arxiv.org/abs/1603.09382)."""

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)


class Mlp(nn.Module):
    """The feed-forward network: two linear layers, GELU between."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """x + drop_path(gamma * mlp(norm2(filter(norm1(x))))): one residual around filter and mlp."""

    def __init__(
        self,
        dim: int,
        size: Size,
        drop_path: float,
        layer_scale_init_value: float,
        filter_resize: str,
        mlp_ratio: int = 4,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.filter = GlobalFilter(dim, size, resize=filter_resize)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        self.gamma = nn.Parameter(torch.full((dim,), float(layer_scale_init_value)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim)
        return x + self.drop_path(self.gamma * self.mlp(self.norm2(self.filter(self.norm1(x)))))


class PatchEmbed(nn.Module):
    """Non-overlapping convolution; a map that it does not divide is zero-padded right and below."""

    def __init__(self, in_dim: int, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, kernel_size=patch_size, stride=patch_size)
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:  # (B, in_dim, H, W)
        H, W = x.shape[2:]
        x = F.pad(x, (0, -W % self.patch_size, 0, -H % self.patch_size))
        return self.proj(x).permute(0, 2, 3, 1)  # (B, H / patch_size, W / patch_size, dim)


@MODELS.register_module()
class GFNet(BaseModule):
    """Hierarchical GFNet (GFNet-H): four stages of strides 4, 8, 16 and 32.

    Args:
        arch: ``h-tiny``, ``h-small``, ``h-base``, or a dict with ``dims``, ``depths`` (one number
            for each stage) and, optionally, ``drop_path_rate`` (0) and ``layer_scale_init_value``
            (1e-3).
        img_size: Image size, int or (H, W), for which filters and position embedding are stored.
            They are resized to the maps of any other image in ``forward``. With the training crop
            here the ImageNet weights are resized once, when they are loaded.
        out_indices: The stages whose normalised maps are returned. Later stages are not built.
        drop_path_rate: Stochastic depth of the last block, growing linearly from 0 at the first.
            The rate of the arch's ImageNet training if None.
        frozen_stages: -1 trains everything, 0 freezes the stem (first patch embedding and
            position embedding), i > 0 also the first i stages.
        with_cp: Recompute the blocks in the backward pass to save memory.
        filter_resize: See :func:`.resample.resize_filter`.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=...)`` takes official ImageNet
            files and our own: see :func:`gfnet_dense.checkpoints.load_pretrained`.
    """

    def __init__(
        self,
        arch: str | dict = "h-tiny",
        img_size: int | Size = 224,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        filter_resize: str = "trigonometric",
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        self.arch, preset = _resolve_arch(arch)
        self.dims, self.depths = tuple(preset["dims"]), tuple(preset["depths"])
        self.out_indices = _check_out_indices(out_indices, len(self.dims))
        num_stages = self.out_indices[-1] + 1
        if not -1 <= frozen_stages <= num_stages:
            raise InputError(
                f"frozen_stages is between -1 and {num_stages} (stages built), got {frozen_stages}"
            )
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.filter_resize = filter_resize
        self.grids = _stage_grids(img_size, num_stages)

        if drop_path_rate is None:
            drop_path_rate = preset.get("drop_path_rate", 0.0)
        rates = torch.linspace(0, drop_path_rate, sum(self.depths)).tolist()

        in_dims = (3, *self.dims)
        self.patch_embed = nn.ModuleList(
            PatchEmbed(in_dims[i], self.dims[i], patch_size=4 if i == 0 else 2)
            for i in range(num_stages)
        )
        h, w = self.grids[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, h * w, self.dims[0]))
        self.blocks = nn.ModuleList()
        for i in range(num_stages):
            first = sum(self.depths[:i])
            self.blocks.append(
                nn.ModuleList(
                    Block(
                        self.dims[i],
                        self.grids[i],
                        drop_path=rates[first + j],
                        layer_scale_init_value=preset.get("layer_scale_init_value", 1e-3),
                        filter_resize=filter_resize,
                    )
                    for j in range(self.depths[i])
                )
            )
        # Only of used outputs: a parameter without gradient stops DistributedDataParallel.
        for i in self.out_indices:
            self.add_module(f"norm{i}", nn.LayerNorm(self.dims[i], eps=1e-6))

        self._init_parameters()
        self._freeze()
        self.register_load_state_dict_pre_hook(_adapt_before_loading)

    def _init_parameters(self) -> None:
        """Initialise as the official release does; filters and gamma have done so themselves."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``; without one the constructor's values stay."""
        if isinstance(self.init_cfg, dict) and self.init_cfg["type"] == "Pretrained":
            load_pretrained(self, self.init_cfg["checkpoint"])
            self._is_init = True
        else:
            super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps (B, dims[i], ceil(H / stride), ceil(W / stride)) of ``out_indices``.

        Args:
            x: Images, (B, 3, H, W), H and W of 32 pixels and more.
        """
        outs = []
        for i, (embed, blocks) in enumerate(zip(self.patch_embed, self.blocks, strict=True)):
            x = embed(x)  # (B, H, W, dim)
            if i == 0:
                size = x.shape[1:3]
                pos_embed = resize_position_embedding(self.pos_embed, self.grids[0], size)
                x = x + pos_embed.reshape(1, *size, -1)
            for block in blocks:
                if self.with_cp and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if i in self.out_indices:
                outs.append(getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2).contiguous())
            x = x.permute(0, 3, 1, 2)
        return tuple(outs)

    def _frozen_modules(self) -> list[nn.Module]:
        """Return the modules that ``frozen_stages`` freezes; ``pos_embed`` comes with the first."""
        if self.frozen_stages < 0:
            return []
        n = self.frozen_stages
        norms = [getattr(self, f"norm{i}") for i in self.out_indices if i < n]
        return [*self.patch_embed[: max(n, 1)], *self.blocks[:n], *norms]

    def _freeze(self) -> None:
        modules = self._frozen_modules()
        if modules:
            self.pos_embed.requires_grad_(False)
        for module in modules:
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "GFNet":
        """Set training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self


def _resolve_arch(arch: str | dict) -> tuple[str, dict]:
    """Return name and preset of ``arch``, the constructor's argument."""
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise InputError(f"arch is one of {', '.join(ARCHS)}, or a dict, got {arch!r}")
        return arch, ARCHS[arch]
    known = ("dims", "depths", "drop_path_rate", "layer_scale_init_value")
    unknown = set(arch) - set(known)
    if unknown or "dims" not in arch or "depths" not in arch:
        raise InputError(
            f"an arch dict has dims and depths and, optionally, {' and '.join(known[2:])}, "
            f"got {', '.join(arch) or 'nothing'}"
        )
    if len(arch["dims"]) != len(arch["depths"]):
        raise InputError(
            f"an arch has as many dims as depths, got {arch['dims']} and {arch['depths']}"
        )
    return "custom", arch


def _check_out_indices(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Return ``out_indices`` as a tuple; they are distinct stages in ascending order."""
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices) & set(range(num_stages))):
        raise InputError(
            f"out_indices are distinct, ascending and within 0..{num_stages - 1}, got {indices}"
        )
    return indices


def _stage_grids(img_size: int | Size, num_stages: int) -> list[Size]:
    """Return the map sizes of the stages for an image of ``img_size``."""
    h, w = (img_size, img_size) if isinstance(img_size, int) else img_size
    if min(h, w) < 32:
        raise InputError(f"img_size is 32 pixels or more on both sides, got {img_size}")
    return [(-(-h // stride), -(-w // stride)) for stride in (4 * 2**i for i in range(num_stages))]


def _adapt_before_loading(module: GFNet, state_dict: dict, prefix: str, *_) -> None:
    """Bring official keys and other grids to the module's, whoever loads the state dict."""
    last_norm = f"norm{module.out_indices[-1]}"
    adapt_state_dict(state_dict, prefix, module.grids, last_norm, module.filter_resize)
