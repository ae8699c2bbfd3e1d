"""The arch of a backbone, as it is read off a state dict."""

import re
from dataclasses import dataclass

from torch import Tensor

# Tensors of a block that have one number for each channel
PER_CHANNEL = re.compile(r"(norm[12]\.(weight|bias)|gamma[12]?|(mlp\.fc2|pwconv2)\.bias)")


@dataclass(frozen=True)
class Arch:
    """Kind and size of a backbone.

    Attributes:
        kind: ``GFNet``, also for the isotropic models, ``HorNet-GF`` or ``HorNet-7x7``.
        dims: Number of channels of each stage.
        depths: Number of blocks of each stage.
    """

    kind: str
    dims: tuple[int, ...]
    depths: tuple[int, ...]


def compare(expected: Arch, found: Arch) -> str:
    """Return two archs for a message, with their kinds where these differ."""
    return f"expected {_in_words(expected, found)}, found {_in_words(found, expected)}"


def _in_words(arch: Arch, other: Arch) -> str:
    dims, depths = ("/".join(map(str, numbers)) for numbers in (arch.dims, arch.depths))
    kind = "" if arch.kind == other.kind else f"{arch.kind} with "
    return f"{kind}dims {dims} and depths {depths}"


def shape_of_blocks(
    state_dict: dict[str, Tensor], pattern: re.Pattern[str]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the dims and depths of the blocks in a state dict, one number for each stage.

    Any tensor of a block tells that it is there: a single one may be missing.

    Args:
        state_dict: Weights.
        pattern: Pattern of the names in blocks; its groups are the number of the stage, None for
            the only one, the number of the block, and the name inside of the block.

    Returns:
        Dims and depths; None if there are no blocks.
    """
    dims: dict[int, int] = {}
    blocks: dict[int, set[str]] = {}  # the numbers of the blocks of each stage
    for name, tensor in state_dict.items():
        if match := pattern.fullmatch(name):
            stage = int(match[1] or 0)
            blocks.setdefault(stage, set()).add(match[2])
            if PER_CHANNEL.fullmatch(match[3]) and tensor.ndim == 1:
                dims[stage] = len(tensor)
    if not dims or set(dims) != set(blocks):
        return None
    return (
        tuple(dims[i] for i in sorted(dims)),
        tuple(len(blocks[i]) for i in sorted(blocks)),
    )
