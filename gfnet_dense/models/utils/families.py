"""The families of backbones, told apart by the names of their weights."""

from torch import Tensor

from .arch import Arch
from .hornet_state_dict import describe_hornet
from .state_dict import describe_gfnet

# Names of the first block of every backbone, to find its weights in a file
FIRST_NAMES = (
    "pos_embed", "patch_embed.0.proj.weight", "patch_embed.proj.weight",
    "blocks.0.0.filter.complex_weight", "blocks.0.filter.complex_weight",
    "blocks.0.0.norm1.weight", "blocks.0.norm1.weight",
    "downsample_layers.0.0.weight", "stages.0.0.gnconv.proj_in.weight", "stages.0.0.norm1.weight",
)  # fmt: skip


def describe_arch(state_dict: dict[str, Tensor]) -> Arch | None:
    """Return the arch of a backbone, read from its state dict.

    Returns:
        The arch, or None if the state dict is not one of a backbone of this project.
    """
    return describe_gfnet(state_dict) or describe_hornet(state_dict)
