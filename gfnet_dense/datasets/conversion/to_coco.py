"""Writing of COCO files (https://cocodataset.org/#format-data)."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from gfnet_dense.utils.errors import InputError

from .images import Content
from .model import IGNORED, LabeledImage, Source, is_background
from .shapes import coco_mask, outline_rle

NO_OUTLINE = "objects have a box and no outline: a detector of boxes can be trained, no Mask R-CNN"


def plan_coco(
    source: Source, names: Sequence[str], contents: Sequence[Content], classes: Sequence[str]
) -> dict[str, Content]:
    """Return the files of a COCO data set by their names: images, and a JSON for each split.

    What COCO cannot hold is added to what the source leaves out.

    Args:
        source: The source, whose images have a split.
        names: Name of each image.
        contents: Content of each image.
        classes: Class names, those of the categories 1, 2, ...

    Raises:
        InputError: If images have no objects, but label maps alone.
    """
    without = next((image for image in source.images if image.objects is None), None)
    if without is not None:
        raise InputError(
            f"{without.source} tells classes of pixels, not which pixels are one object: take "
            "--to masks, or add masks of objects as Pascal VOC's SegmentationObject"
        )
    pairs = zip(source.images, names, contents, strict=True)
    files = {f"images/{image.split}/{name}": content for image, name, content in pairs}
    for split in dict.fromkeys(image.split for image in source.images):
        chosen = [pair for pair in zip(source.images, names, strict=True) if pair[0].split == split]
        content = coco_content(chosen, classes)
        files[f"annotations/{split}.json"] = partial(_dump, content)
    for image in source.images:
        for each in image.objects or []:
            if each.name == IGNORED:
                source.leave_out(f"areas of {IGNORED}, which COCO files cannot hold", image.source)
            elif is_background(each.name):
                source.leave_out("objects of the background, which is no class", image.source)
            elif not each.has_outline:
                source.note(NO_OUTLINE, image.source)
        if image.label_map is not None and image.label_map.ignored:
            source.leave_out(
                "pixels that are not labeled (255), which COCO files cannot hold",
                image.source, image.label_map.ignored,
            )  # fmt: skip
    return files


def _dump(content: dict) -> bytes:
    return json.dumps(content).encode()


def coco_content(images: Sequence[tuple[LabeledImage, str]], classes: Sequence[str]) -> dict:
    """Return the content of a COCO file.

    Polygons stay as they are, masks are compressed run lengths, areas are those of the masks by
    pycocotools. Objects of other names than the classes are left out.

    Args:
        images: Images with their names.
        classes: Class names, those of the categories 1, 2, ...
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, name) in enumerate(images, start=1):
        assert image.size is not None
        height, width = image.size
        entries.append(dict(id=number, file_name=name, height=height, width=width))
        for each in _annotations(image, classes):
            annotations.append(dict(id=len(annotations) + 1, image_id=number, **each))
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, start=1)]
    return dict(images=entries, annotations=annotations, categories=categories)


def _annotations(image: LabeledImage, classes: Sequence[str]) -> Iterator[dict]:
    assert image.size is not None
    for each in image.objects or []:
        if each.name not in classes:
            continue
        assert each.box is not None
        annotation: dict[str, Any] = dict(
            category_id=1 + classes.index(each.name),
            bbox=list(each.box),
            area=each.box[2] * each.box[3],
            iscrowd=int(each.crowd),
        )
        if each.has_outline:
            rle = outline_rle(each, image.size)
            annotation["area"] = int(coco_mask().area(rle))
            annotation["segmentation"] = each.polygons or rle
        yield annotation
