"""Sharing trained models: folders with weights, config and model card, and the Hugging Face hub."""

from .folder import from_pretrained, push_to_hub, save_pretrained

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]
