"""Sources with random damage: problems are sentences, never another error."""

import json
import random
import shutil

import pytest

from gfnet_dense.datasets.conversion.convert import plan_conversion, write_conversion
from gfnet_dense.utils.errors import InputError
from tests.datasets.conversion.test_faults import WRITERS, originals  # noqa: F401

ODD = [
    None, True, -1, 0, 3.7, 1e308, float("nan"), float("inf"), 10**30, "", "x", "../..", "\0", [],
    {}, [[]], [None], {"a": []}, [1, 2], "a/b", "0000.jpg",
]  # fmt: skip
FILES = {
    "labelme": "0001.json", "labelme-masks": "0001.json", "cvat": "annotations.xml",
    "cvat-masks": "annotations.xml", "voc-boxes": "Annotations/0001.xml",
    "voc-masks": "class_names.txt", "yolo": "labels/train/0001.txt", "via": "via.json",
    "coco": "annotations/instances.json", "colors": "colors.txt",
}  # fmt: skip
NUM_TRIALS = 12


def damage_json(value, rng):
    """Replace a random part of parsed JSON by something odd."""
    holders = []

    def collect(each):
        keys = each.keys() if isinstance(each, dict) else range(len(each))
        for key in list(keys):
            holders.append((each, key))
            if isinstance(each[key], (dict, list)):
                collect(each[key])

    collect(value)
    holder, key = rng.choice(holders)
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(ODD)


def damage_text(text, rng):
    """Change, remove or double a piece of text."""
    start = rng.randrange(len(text))
    end = min(len(text), start + rng.choice([1, 1, 3, 20]))
    piece = rng.choice(["", text[start:end] * 2, "nan", "-1", "99999999999", '"', "\0", "é", "\n"])
    return text[:start] + piece + text[end:]


@pytest.mark.parametrize("name", FILES)
def test_damaged_sources_are_converted_or_refused(name, originals, tmp_path):  # noqa: F811
    assert name in WRITERS
    rng = random.Random(name)
    source = shutil.copytree(originals / name, tmp_path / "in")
    path = source / FILES[name]
    original = path.read_text()
    for i in range(NUM_TRIALS):
        if path.suffix == ".json" and rng.random() < 0.8:
            content = json.loads(original)
            damage_json(content, rng)
            path.write_text(json.dumps(content))
        else:
            path.write_text(damage_text(original, rng))
        to = "masks" if name in ("colors", "voc-masks") else rng.choice(["masks", "coco"])
        options = dict(colors=source / "colors.txt") if name == "colors" else {}
        try:
            plan = plan_conversion(source, tmp_path / f"out{i}", to, val=0, **options)
            if not plan.source.problems:
                write_conversion(plan)
        except InputError as e:
            assert str(e)
