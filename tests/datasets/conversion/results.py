"""Conversions as tests look at them."""

import json

import numpy as np
from PIL import Image

from gfnet_dense.datasets.conversion.convert import plan_conversion, write_conversion


def convert(source, out, to, **options):
    """Convert all images of a source to the training, and return the plan."""
    plan = plan_conversion(source, out, to, **{"val": 0, **options})
    assert not plan.source.problems, plan.source.problems
    write_conversion(plan)
    return plan


def faults(source, out, to="coco", **options):
    """Return the sentences of a conversion that cannot be done."""
    plan = plan_conversion(source, out, to, **options)
    assert plan.source.problems and not plan.files and not out.exists()
    return [problem.sentence for problem in plan.source.problems]


def label_map(out, name, split="train"):
    return np.array(Image.open(out / "labels" / split / f"{name}.png"))


def coco(out, split="train"):
    return json.loads((out / "annotations" / f"{split}.json").read_text())


def objects(out, split="train"):
    """Return by image: a list of class name, box and annotation."""
    content = coco(out, split)
    names = {each["id"]: each["name"] for each in content["categories"]}
    files = {each["id"]: each["file_name"] for each in content["images"]}
    found = {name: [] for name in files.values()}
    for each in content["annotations"]:
        found[files[each["image_id"]]].append((names[each["category_id"]], each["bbox"], each))
    return found
