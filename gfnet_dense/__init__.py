"""Global Filter Networks for dense prediction, on OpenMMLab."""

import lazy_loader

__version__ = "0.1.0"

# Public names are listed in __init__.pyi. lazy_loader reads that file and imports a name when it is
# first used (https://scientific-python.org/specs/spec-0001); type checkers read it, too.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
