"""Annotations and detections at random, with all kinds of errors among them."""

import contextlib
import io

import numpy as np

SIZE = 200  # of the images, in pixels


def random_content(seed=0, num_images=30, num_classes=3, crowds=True):
    """Return the content of a COCO file and detections: objects found, moved, renamed, doubled."""
    generator = np.random.default_rng(seed)
    annotations, results = [], []

    def box():
        side = generator.uniform(8, 110, 2)
        return np.r_[generator.uniform(0, SIZE - side), side].round(2)

    def detect(image, category, where):
        score = round(float(generator.uniform()), 2)  # some scores are equal
        results.append(
            dict(image_id=image, category_id=category, bbox=list(map(float, where)), score=score)
        )

    for image in range(1, num_images + 1):
        for _ in range(generator.integers(0, 6)):
            # The last class has no objects
            category, where = int(generator.integers(1, num_classes)), box()
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=image, category_id=10 * category,
                    bbox=where.tolist(), area=float(where[2] * where[3]),
                    iscrowd=int(crowds and generator.uniform() < 0.1),
                )
            )  # fmt: skip
            for _ in range(generator.integers(0, 4)):
                offset = np.r_[generator.normal(0, generator.choice([1, 15]), 2), 0, 0]
                wrong = generator.uniform() < 0.3
                other = int(generator.integers(1, num_classes + 1))
                detect(image, 10 * (other if wrong else category), where + offset)
        detect(image, 10 * int(generator.integers(1, num_classes + 1)), box())
    content = dict(
        images=[dict(id=i + 1, file_name=f"{i}.png", width=SIZE, height=SIZE)
                for i in range(num_images)],
        categories=[dict(id=10 * (c + 1), name=f"class {c}") for c in range(num_classes)],
        annotations=annotations,
    )  # fmt: skip
    return content, results


def with_polygons(content):
    """Give each object its box as a polygon."""
    for each in content["annotations"]:
        x, y, w, h = each["bbox"]
        each["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return content


def coco_of(content):
    """Return pycocotools' COCO object of a content."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
