"""Drawn scenes on disk, in the layout of real datasets."""

import tempfile
from pathlib import Path

from PIL import Image

from .scenes import draw_scene

NUM_IMAGES = {"training": 96, "validation": 32}
VERSION = 1  # of the drawn scenes: another one is drawn anew beside the old


def write_ade20k(root: str | Path, seed: int = 0) -> Path:
    """Write drawn scenes in the layout of ADEChallengeData2016, unless they are there already.

    Label maps are 8-bit PNGs with ADE20K's own indices: 0 other, 1..150 classes.

    Args:
        root: Folder under which ``v1/ADEChallengeData2016`` appears, whole or not at all.
        seed: The scenes' seed; validation scenes are drawn from seeds that training does not use.

    Returns:
        The folder ``ADEChallengeData2016``.
    """
    folder = Path(root) / f"v{VERSION}" / "ADEChallengeData2016"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"drawing {sum(NUM_IMAGES.values())} scenes into {folder}, some seconds", flush=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as temporary:
        part = Path(temporary) / folder.name
        index = seed * sum(NUM_IMAGES.values())
        for split, num_images in NUM_IMAGES.items():
            images, annotations = part / "images" / split, part / "annotations" / split
            images.mkdir(parents=True)
            annotations.mkdir(parents=True)
            for i in range(1, num_images + 1):
                scene = draw_scene(index)
                name = f"ADE_{split[: 5 if split == 'training' else 3]}_{i:08d}"
                Image.fromarray(scene.image).save(images / f"{name}.jpg", quality=95)
                Image.fromarray(scene.labels).save(annotations / f"{name}.png")
                index += 1
        try:
            part.rename(folder)
        except OSError:  # another process, of a distributed run, was faster
            if not folder.is_dir():
                raise
    return folder
