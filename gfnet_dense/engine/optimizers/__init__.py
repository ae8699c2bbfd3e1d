"""Parameter groups with their own learning rate and weight decay."""

from .layer_decay import LayerDecayConstructor

__all__ = ["LayerDecayConstructor"]
