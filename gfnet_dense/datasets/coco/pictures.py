"""Comparison of the sizes in a COCO file with those of the pictures.

Boxes are pixels of a picture as it was when they were drawn. A photo that its EXIF orientation
turns, or one that was made smaller after labeling, has its boxes at wrong places, and nothing else
would say so (facebookresearch/detectron2#788, HumanSignal/label-studio#6608).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import exif_orientation
from gfnet_dense.utils.types import Size

NUM_SAMPLES = 16  # number of pictures whose headers are read before a training

IMAGE_WIDTH, IMAGE_LENGTH = 256, 257  # tags of a TIFF
EXCHANGES = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def check_sample(
    images: Sequence[dict], folder: Path, source: Path, is_turned: bool = True
) -> str | None:
    """Compare the sizes of some pictures, spread over a file, with those that the file says.

    Args:
        images: Images of a COCO file.
        folder: Folder of the pictures.
        source: The COCO file, for messages.
        is_turned: Whether photos are turned by their EXIF orientation when they are loaded.

    Returns:
        A warning if the orientation of a picture turns or mirrors it and its size does not tell
        whether the labels are turned with it, else None.

    Raises:
        InputError: If a picture is missing, or of another size.
    """
    doubtful = []
    chosen = np.unique(np.linspace(0, len(images) - 1, NUM_SAMPLES).round().astype(int))
    for image in (images[i] for i in chosen):
        path = folder / image["file_name"]
        if not path.exists():
            raise InputError(_say_missing(path, folder, source))
        try:
            with Image.open(path) as header:
                stored, orientation = stored_size(header), exif_orientation(header)
        except (
            LookupError,
            OSError,
            SyntaxError,
            ValueError,
        ):  # its reader says what is wrong with it
            continue
        orientation = orientation if is_turned else 1
        loaded = stored[::-1] if orientation in EXCHANGES else stored
        check_size(path, loaded, (image["height"], image["width"]), source, orientation)
        if orientation in (2, 3, 4) or (orientation != 1 and stored[0] == stored[1]):
            doubtful.append(f"{path} (orientation {orientation})")
    if not doubtful:
        return None
    return (
        f"{len(doubtful)} of {len(chosen)} pictures of {source} that were looked at are turned or "
        f"mirrored by their EXIF orientation when they are loaded, first {doubtful[0]}, and their "
        "size does not tell whether their labels are: labels must be drawn on the turned picture"
    )


def stored_size(image: Image.Image) -> Size:
    """Return the stored (H, W) of an image that Pillow has opened; it turns the size of a TIFF."""
    tags = getattr(image, "tag_v2", None)
    return (tags[IMAGE_LENGTH], tags[IMAGE_WIDTH]) if tags else (image.height, image.width)


def check_size(
    path: str | Path, loaded: Size, labeled: Size, source: str | Path, orientation: int = 1
) -> None:
    """Check that a picture has the size for which it was labeled.

    Args:
        path: The picture.
        loaded: Its (H, W) in pixels after it was turned by its EXIF orientation.
        labeled: (H, W) in the annotation file.
        source: The annotation file, for the message.
        orientation: EXIF orientation of the picture.

    Raises:
        InputError: If the sizes differ.
    """
    if loaded == labeled:
        return
    if loaded == labeled[::-1] and orientation in EXCHANGES:
        reason = (
            f"its EXIF orientation {orientation} turns it, and its labels are for the picture as "
            "it is stored: store it without this orientation, as check_dataset --fix does"
        )
    elif loaded == labeled[::-1]:
        reason = "width and height are exchanged: correct them in the file"
    else:
        reason = "boxes would be at wrong places: take the picture that was labeled"
    raise InputError(
        f"{path} has {loaded[1]}x{loaded[0]} pixels, but {labeled[1]}x{labeled[0]} in {source}; "
        f"{reason}"
    )


def _say_missing(path: Path, folder: Path, source: Path) -> str:
    name = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    message = f"{source} names the picture {name}, and there is no {path}"
    if "\\" in name:
        return f"{message}: write its folders with / instead of \\"
    for parent in (folder.parent, *folder.parents):
        if (parent / name).exists():
            return f"{message}, but {parent / name}: set data_prefix.img of the dataset to {parent}"
    if (folder / path.name).exists():
        return f"{message}, but {folder / path.name}: leave out the folders of file_name"
    return f"{message}: set data_root and data_prefix.img of the dataset to where it is"
