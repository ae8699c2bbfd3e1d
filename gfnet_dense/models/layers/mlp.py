"""The feed-forward network of a block.

The private operator mkldnn._linear_pointwise is used here, as seen in PyTorch 2.13.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Feed-forward network: two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (..., dim); the result has the same shape."""
        return self.fc2(self.act(self.fc1(x)))

    def infer(self, x: Tensor) -> Tensor:
        """Return the same as :meth:`forward`, without gradients and faster on a CPU."""
        hidden = linear(x, self.fc1.weight, self.fc1.bias, gelu=self.act.approximate)
        return linear(hidden, self.fc2.weight, self.fc2.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: str = "") -> Tensor:
    """Return ``F.linear(x, weight, bias)``, optionally with a GELU behind it, without gradients.

    On a CPU this calls oneDNN's operator, which torch.compile uses as well and which is faster
    than the MKL call of ``F.linear``.

    Args:
        x: Input, (..., in_dim).
        weight: Weight, (out_dim, in_dim).
        bias: Bias, (out_dim,).
        gelu: ``approximate`` of :func:`torch.nn.functional.gelu`; '' for no GELU.

    Returns:
        Output, (..., out_dim).
    """
    if (
        (x.device.type, x.dtype) == ("cpu", torch.float32)
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    ):
        activation = "gelu" if gelu else "none"
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], gelu)
    y = F.linear(x, weight, bias)
    return F.gelu(y, approximate=gelu) if gelu else y
