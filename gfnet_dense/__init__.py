"""Global Filter Networks for dense prediction, on OpenMMLab."""

import lazy_loader

__version__ = "0.1.0"

# The public names are listed in __init__.pyi, for type checkers and for this line, which imports
# each when it is first used (https://scientific-python.org/specs/spec-0001).
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
