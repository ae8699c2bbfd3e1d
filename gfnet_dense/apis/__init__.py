"""Trained models for Python programs: loading, predicting, writing predictions.

Programs import ``load_model``, ``load_backbone`` and ``predict`` from :mod:`gfnet_dense`. This file
imports nothing, since ``load_backbone`` works without mmcv and OpenCV.
"""
