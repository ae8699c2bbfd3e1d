"""The runner that trains and tests, and what a training needs to resume."""

from .dense_runner import DenseRunner, build_runner

__all__ = ["DenseRunner", "build_runner"]
