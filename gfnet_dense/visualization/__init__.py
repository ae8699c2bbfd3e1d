"""Figures of filters, features, predictions, datasets and training runs."""
