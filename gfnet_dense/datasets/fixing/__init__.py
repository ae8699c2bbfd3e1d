"""Mended copies of data sets."""
