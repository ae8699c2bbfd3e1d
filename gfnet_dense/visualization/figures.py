"""Saving matplotlib figures."""

from pathlib import Path

from matplotlib.figure import Figure

from gfnet_dense.utils.atomic_write import atomic_write


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Save a figure in the format that the suffix of ``path`` names, whole or not at all."""
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=dpi)
