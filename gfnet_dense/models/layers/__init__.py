from .global_filter import GlobalFilter

__all__ = ["GlobalFilter"]
