"""Measurements over resolution."""
