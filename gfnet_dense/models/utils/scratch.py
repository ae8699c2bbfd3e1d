"""Memory for temporary tensors of one shape after another."""

from math import prod

from torch import Tensor


class Scratch:
    """Temporary tensors whose memory is used again: fresh pages cost more than most arithmetic.

    Args:
        like: Tensor whose dtype and device they have.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like.new_empty(0)  # not the tensor itself, whose memory would be kept
        self._memory: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return a contiguous tensor of any values; it takes the place of the last of that name."""
        size, memory = prod(shape), self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._memory[name] = self._like.new_empty(size)
        return memory[:size].view(shape)
