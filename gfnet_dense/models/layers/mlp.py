"""The feed-forward network of a block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """The feed-forward network: two linear layers, GELU between."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))

    def infer(self, x: Tensor) -> Tensor:
        """Return :meth:`forward` without gradients, faster on a CPU."""
        hidden = linear(x, self.fc1.weight, self.fc1.bias, gelu=self.act.approximate)
        return linear(hidden, self.fc2.weight, self.fc2.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: str = "") -> Tensor:
    """Return ``F.linear(x, weight, bias)`` without gradients.

    On a CPU it is oneDNN's, the operator that torch.compile takes, where PyTorch alone has MKL's.

    Args:
        x: (..., in_dim).
        weight: (out_dim, in_dim).
        bias: (out_dim,).
        gelu: Of :func:`torch.nn.functional.gelu` behind it the ``approximate``, '' for no GELU.
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
