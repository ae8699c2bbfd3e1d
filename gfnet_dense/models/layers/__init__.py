"""The layers that the backbones are made of."""

from . import flops  # noqa: F401
from .global_filter import GlobalFilter

__all__ = ["GlobalFilter"]
