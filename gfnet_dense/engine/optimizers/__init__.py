"""Parameter groups with their own learning rate and weight decay, and training in bfloat16."""

from .bfloat16 import Bfloat16OptimWrapper
from .layer_decay import LayerDecayConstructor

__all__ = ["Bfloat16OptimWrapper", "LayerDecayConstructor"]
