"""Writing of label maps for mmsegmentation."""

import io
from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from gfnet_dense.utils.errors import InputError

from .images import Content, one_suffix
from .model import IGNORED, NOT_LABELED, LabeledImage, Source, is_background
from .shapes import box_corners, decode, outline_rle

BACKGROUND = "background"  # class 0 of label maps that are made from objects


def plan_masks(
    source: Source,
    names: Sequence[str],
    contents: Sequence[Content],
    classes: Sequence[str],
    pixels: Counter,
) -> tuple[dict[str, Content], str]:
    """Return the files of a segmentation data set by their names, and the suffix of its images.

    These are images, label maps, and ``classes.txt`` with the names of the indices 0, 1, ...

    Args:
        source: The source, whose images have a split.
        names: Name of each image.
        contents: Content of each image.
        classes: Names of the indices 0, 1, ...
        pixels: Gets the number of pixels 'in objects' and 'in several' while files are written.

    Raises:
        InputError: If objects have no outline, or there are too many classes.
    """
    if len(classes) > NOT_LABELED:
        raise InputError(
            f"{len(classes)} classes with the background: label maps of 8 bits hold 255 at most, "
            "choose some with --classes"
        )
    for image in source.images:
        for each in image.objects or []:
            if each.name not in classes[1:] and not each.has_outline and each.box is not None:
                # What is ignored, or background, reaches to the corners of its box.
                each.polygons = [box_corners(each.box)]
    boxes = [
        image.source
        for image in source.images
        for each in image.objects or []
        if image.label_map is None and not each.has_outline
    ]
    if boxes:
        raise InputError(
            f"{len(boxes)} objects have a box and no outline, first in {boxes[0]}, and a box is no "
            "mask: take --to coco, label outlines, or choose classes that have some with --classes"
        )
    new_names, new_contents, suffix = one_suffix(names, contents, source)
    files: dict[str, Content] = {}
    for image, name, content in zip(source.images, new_names, new_contents, strict=True):
        files[f"images/{image.split}/{name}"] = content
        label_name = f"{name.removesuffix(suffix)}.png"
        files[f"labels/{image.split}/{label_name}"] = partial(_label_png, image, classes, pixels)
    files["classes.txt"] = partial(_encode, "".join(f"{name}\n" for name in classes))
    return files, suffix


def _encode(text: str) -> bytes:
    return text.encode()


def _label_png(image: LabeledImage, classes: Sequence[str], pixels: Counter) -> bytes:
    if image.label_map is not None:
        labels = image.label_map.read()
    else:
        labels, covered = draw_labels(image, classes)
        pixels.update(
            {"in objects": int((covered > 0).sum()), "in several": int((covered > 1).sum())}
        )
    picture = Image.fromarray(labels)
    picture.putpalette(palette())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def draw_labels(image: LabeledImage, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map of the objects in an image, and how many objects hold each pixel.

    Where objects overlap, the smaller one lies on top. Crowds become 255 where no object is.

    Args:
        image: An image whose objects have outlines.
        classes: Names of the indices 0, 1, ...; 0 is the background.

    Returns:
        (H, W) uint8, and (H, W) numbers of objects.
    """
    assert image.size is not None
    drawn = []
    for each in image.objects or []:
        mask = decode(outline_rle(each, image.size))
        if each.name == IGNORED or each.crowd:
            value = NOT_LABELED
        else:
            value = 0 if is_background(each.name) else classes.index(each.name)
        drawn.append((each.crowd, int(mask.sum()), mask, value))
    labels, covered = np.zeros(image.size, np.uint8), np.zeros(image.size, np.uint16)
    for is_crowd, _, mask, value in sorted(drawn, key=lambda each: (not each[0], -each[1])):
        labels[mask] = value
        covered[mask] += not is_crowd
    return labels, covered


def palette() -> list[int]:
    """Return the 256 colors of Pascal VOC's label maps, as a flat list.

    The bits of an index are spread over the highest bits of the channels (``VOClabelcolormap`` in
    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCdevkit_18-May-2011.tar).
    """
    colors = np.zeros((256, 3), int)
    index = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (index >> (3 * bit + channel) & 1) << 7 - bit
    return colors.ravel().tolist()
