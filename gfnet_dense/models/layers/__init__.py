"""The layers that the backbones are made of."""

from .global_filter import GlobalFilter

__all__ = ["GlobalFilter"]
