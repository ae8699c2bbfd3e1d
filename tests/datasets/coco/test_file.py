"""Faults of COCO files and of their annotations, in training and in evaluation."""

import json
import logging
import re
from copy import deepcopy

import pytest

from gfnet_dense.datasets.coco.file import read_coco
from gfnet_dense.utils.errors import InputError
from tests.coco_files import (
    HEIGHT,
    WIDTH,
    content_of,
    perfect_ap,
    read_split,
    write_data,
)
from tests.conftest import needs_operators

pytestmark = needs_operators

GOOD = content_of()
NUM = len(GOOD["annotations"])
POLYGON = GOOD["annotations"][0]["segmentation"][0]


def first(**changes):
    """Return a file with changes of its first annotation; None removes a key."""
    content = deepcopy(GOOD)
    change(content["annotations"][0], changes)
    return content


def every(**changes):
    """Return a file with changes of all annotations; functions get the annotation."""
    content = deepcopy(GOOD)
    for annotation in content["annotations"]:
        values = {k: v(annotation) if callable(v) else v for k, v in changes.items()}
        change(annotation, values)
    return content


def change(entry, changes):
    entry.update(changes)
    for key in [key for key, value in changes.items() if value is None]:
        del entry[key]


def image(**changes):
    """Return a file with changes of its first image."""
    content = deepcopy(GOOD)
    change(content["images"][0], changes)
    return content


def parts(annotation):
    x, y, w, h = annotation["bbox"]
    return [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def corners(annotation):
    x, y, w, h = annotation["bbox"]
    return [x, y, x + w, y + h]


def centers(annotation):
    x, y, w, h = annotation["bbox"]
    return [x + w / 2, y + h / 2, w, h]


def percent(annotation):
    x, y, w, h = annotation["bbox"]
    return [100 * x / WIDTH, 100 * y / HEIGHT, 100 * w / WIDTH, 100 * h / HEIGHT]


def halved(annotation):
    return [[n / 2 for n in polygon] for polygon in annotation["segmentation"]]


def run_lengths(annotation, **changes):
    x, y, w, h = annotation["bbox"]
    counts = [x * HEIGHT + y, h]
    for _ in range(w - 1):
        counts += [HEIGHT - h, h]
    return dict(size=[HEIGHT, WIDTH], counts=[*counts, HEIGHT * WIDTH - sum(counts)]) | changes


SAME = object()  # evaluation as training
USED, FILLED, TOLD, WARNED, REFUSED = "used", "filled in", "left out", "warning", "refused"

# (fault, file, training, evaluation); an outcome is its kind and a pattern of the message.
# Masks are trained and evaluated where the fault begins with "mask:".
FAULTS = [
    ("none", GOOD, (USED, "12 of 12 annotations, 6 pictures"), SAME),
    # Values that are absent, or cannot be right, and have one meaning
    ("no iscrowd", every(iscrowd=None), (FILLED, "12 values of iscrowd"), SAME),
    ("no area", every(area=None), (FILLED, "12 areas"), SAME),
    ("area: 0", every(area=0), (FILLED, "12 areas"), SAME),
    ("area: 0 at one object", first(area=0), (FILLED, "1 areas.* annotation 1 of 00.png"), SAME),
    ("area: 0 and no mask", every(area=0, segmentation=None), (FILLED, "12 areas"), SAME),
    ("negative area", every(area=-5), (FILLED, "12 areas"), SAME),
    ("area as text", every(area="900"), (FILLED, "12 areas"), SAME),
    ("area is NaN", every(area=float("nan")), (FILLED, "12 areas"), SAME),
    ("no bbox, with a mask", every(bbox=None), (FILLED, "12 boxes"), SAME),
    ("bbox: [], with a mask", every(bbox=[]), (FILLED, "12 boxes"), SAME),
    ("annotation ids from 0", every(id=lambda a: a["id"] - 1), (FILLED, "12 ids"), SAME),
    ("no annotation ids", every(id=None), (FILLED, "12 ids"), SAME),
    ("one annotation id twice", first(id=2), (FILLED, "12 ids"), SAME),
    ("annotation ids as text", every(id=lambda a: str(a["id"])), (FILLED, "12 ids"), SAME),
    (
        "width and height 160.0, 128.0",
        image(width=160.0, height=128.0),
        (FILLED, "1 sizes of images"),
        SAME,
    ),
    # Boxes
    (
        "no bbox, no mask",
        first(bbox=None, segmentation=None),
        (REFUSED, "1 of 12 .* not four numbers, first annotation 1 of 00.png"),
        SAME,
    ),
    ("text in a box", first(bbox=["10", 10, 30, 30]), (REFUSED, "not four numbers.*'10'"), SAME),
    ("box of three numbers", first(bbox=[10, 10, 30]), (REFUSED, "not four numbers"), SAME),
    ("box with NaN", first(bbox=[10, 10, 30, float("nan")]), (REFUSED, "not four numbers"), SAME),
    ("box with null", first(bbox=[10, 10, 30, None]), (REFUSED, "not four numbers"), SAME),
    (
        "box with a huge number",
        first(bbox=[10, 10, 30, 10**400]),
        (REFUSED, "not four numbers"),
        SAME,
    ),
    ("box as a dict", first(bbox=dict(x=1, y=2)), (REFUSED, "not four numbers"), SAME),
    ("boxes from 0 to 1", every(bbox=parts), (REFUSED, "between 0 and 1"), SAME),
    ("boxes as corners", every(bbox=corners), (REFUSED, "masks .* fit as corners"), SAME),
    (
        "boxes as corners, no mask",
        every(bbox=corners, segmentation=[]),
        (REFUSED, "all would lie inside as corners"),
        SAME,
    ),
    ("boxes as centers", every(bbox=centers), (REFUSED, "masks .* fit as centers"), SAME),
    (
        "boxes as centers, no mask",
        every(bbox=centers, segmentation=[]),
        (REFUSED, "all would lie inside as centers"),
        SAME,
    ),
    ("boxes in percent", every(bbox=percent), (REFUSED, "masks .* fit as percent"), SAME),
    (
        "boxes that are not around their masks",
        every(segmentation=halved),
        (WARNED, "12 of 12 boxes .* compared with the masks of their objects lie elsewhere"),
        SAME,
    ),
    (
        "one box that is not around its mask",
        first(segmentation=[[n / 2 for n in POLYGON]]),
        (USED, "12 of 12"),
        SAME,
    ),
    (
        "a file of panoptic segments",
        dict(GOOD, annotations=[dict(image_id=1, segments_info=[])]),
        (REFUSED, "is a file of panoptic segments"),
        SAME,
    ),
    (
        "a negative width",
        first(bbox=[50, 10, -30, 30]),
        (WARNED, "1 of 12 .* not used: 1 with a width or height of 0"),
        (WARNED, "counts? as missed"),
    ),
    (
        "all widths negative",
        every(bbox=[50, 10, -30, 30]),
        (REFUSED, "none of the 12 annotations .*12 with a width"),
        SAME,
    ),
    (
        "a width of 0",
        first(bbox=[50, 10, 0, 30]),
        (WARNED, "1 with a width or height of 0"),
        (WARNED, "as missed"),
    ),
    (
        "a width of half a pixel",
        first(bbox=[50, 10, 0.5, 30]),
        (WARNED, "1 less than a pixel wide"),
        (USED, "12 of 12"),
    ),
    (
        "a box outside of its picture",
        first(bbox=[300, 10, 30, 30]),
        (WARNED, "1 outside of their picture .first annotation 1 of 00.png, bbox .300, 10"),
        (WARNED, "as missed"),
    ),
    (
        "all boxes outside",
        every(bbox=[300, 10, 30, 30]),
        (REFUSED, "none of the 12 .* outside"),
        SAME,
    ),
    (
        "a box that reaches out",
        first(bbox=[130, 10, 60, 30]),
        (WARNED, "1 of 12 boxes .* reach out"),
        SAME,
    ),
    ("a box that begins outside", first(bbox=[-20, 10, 60, 30]), (WARNED, "reach out"), SAME),
    (
        "an object twice",
        first(**{k: GOOD["annotations"][1][k] for k in ("bbox", "category_id", "segmentation")}),
        (WARNED, "1 of 12 annotations .* repeat the box and the class"),
        SAME,
    ),
    # Flags
    (
        "ignore: 1 at one object",
        first(ignore=1),
        (WARNED, "1 marked with ignore"),
        (WARNED, "1 annotations .* counts as objects"),
    ),
    (
        "ignore: 1 at all",
        every(ignore=1),
        (REFUSED, "none of the 12 .* marked with ignore"),
        (WARNED, "12 annotations .* counts as objects"),
    ),
    (
        "iscrowd: 1 at one object",
        first(iscrowd=1),
        (USED, "11 of 12 annotations.*1 crowd regions"),
        SAME,
    ),
    ("iscrowd: 1 at all", every(iscrowd=1), (REFUSED, "none of the 12 .*12 crowd regions"), SAME),
    ("iscrowd: '0'", every(iscrowd="0"), (REFUSED, "iscrowd that is neither 0 nor 1"), SAME),
    ("iscrowd: false", every(iscrowd=False), (USED, "12 of 12"), SAME),
    # Ids
    (
        "category ids off by one",
        every(category_id=lambda a: a["category_id"] - 1),
        (REFUSED, "6 of 12 .* category_id that none of its categories has .1 disc, 2 blob"),
        SAME,
    ),
    (
        "category ids as text",
        every(category_id=lambda a: str(a["category_id"])),
        (REFUSED, "no valid category_id"),
        SAME,
    ),
    ("no category id", first(category_id=None), (REFUSED, "no valid category_id"), SAME),
    ("no image id", first(image_id=None), (REFUSED, "no valid image_id"), SAME),
    (
        "image ids as text in annotations",
        every(image_id=lambda a: str(a["image_id"])),
        (REFUSED, "no valid image_id"),
        SAME,
    ),
    (
        "an annotation of no image",
        first(image_id=99),
        (WARNED, "1 of images that are not in the file"),
        SAME,
    ),
    (
        "all annotations of no image",
        every(image_id=99),
        (REFUSED, "none of the 12 .* not in the file"),
        SAME,
    ),
    ("one image id twice", image(id=2), (REFUSED, "several images in .* have the id 2"), SAME),
    ("an image id as text", image(id="1"), (REFUSED, "no. 0 of the images .* id '1'"), SAME),
    ("no object of a class", every(category_id=1), (WARNED, "no usable object of blob"), SAME),
    # Images
    ("no file_name", image(file_name=None), (REFUSED, "image 1 .* no file_name"), SAME),
    (
        "a picture twice",
        image(file_name="01.png"),
        (WARNED, "1 pictures .* listed more than once, first 01.png"),
        SAME,
    ),
    ("no width", image(width=None), (REFUSED, "00.png has the width None"), SAME),
    ("height as text", image(height="128"), (REFUSED, "the height '128'"), SAME),
    ("width: 0", image(width=0), (REFUSED, "the width 0"), SAME),
    (
        "no annotations",
        dict(GOOD, annotations=[]),
        (REFUSED, "nothing to learn"),
        (REFUSED, "no annotations to evaluate"),
    ),
    (
        "no list of annotations",
        {k: v for k, v in GOOD.items() if k != "annotations"},
        (REFUSED, "nothing to learn"),
        (REFUSED, "no annotations to evaluate"),
    ),
    ("no images", dict(GOOD, images=[]), (REFUSED, "has no images"), SAME),
    (
        "annotations in a dict",
        dict(GOOD, annotations={"1": {}}),
        (REFUSED, "annotations are no list"),
        SAME,
    ),
    ("annotations: null", dict(GOOD, annotations=None), (REFUSED, "annotations are no list"), SAME),
    ("an annotation is a list", dict(GOOD, annotations=[[]]), (REFUSED, "annotations hold"), SAME),
    ("an image is null", dict(GOOD, images=[None]), (REFUSED, "images hold None"), SAME),
    ("a list instead of a file", [], (REFUSED, "is no COCO file"), SAME),
    # Masks
    ("mask: good polygons", GOOD, (USED, "12 of 12"), SAME),
    ("mask: good run lengths", every(segmentation=run_lengths), (USED, "12 of 12"), SAME),
    ("mask: segmentation: []", first(segmentation=[]), (REFUSED, "1 of 12 .* have no mask"), SAME),
    (
        "mask: no segmentation",
        every(segmentation=None),
        (REFUSED, "12 of 12 .* have no mask"),
        SAME,
    ),
    (
        "mask: polygon of 2 numbers",
        first(segmentation=[[5, 5]]),
        (WARNED, "1 with a mask that has no polygon of three points"),
        (REFUSED, "mask that has no polygon"),
    ),
    (
        "mask: polygon of 4 numbers",
        first(segmentation=[[5, 5, 40, 40]]),
        (WARNED, "no polygon of three"),
        (REFUSED, "no polygon"),
    ),
    (
        "mask: polygon of 7 numbers",
        first(segmentation=[[*POLYGON[:6], 5]]),
        (WARNED, "no polygon of three"),
        (REFUSED, "no polygon"),
    ),
    (
        "mask: a good and a thin polygon",
        first(segmentation=[[5, 5, 6, 6], POLYGON]),
        (FILLED, "1 masks .polygons of fewer than three points removed"),
        SAME,
    ),
    (
        "mask: all polygons thin",
        every(segmentation=[[5, 5, 6, 6]]),
        (REFUSED, "none of the 12"),
        (REFUSED, "12 of 12 .* no polygon"),
    ),
    (
        "mask: polygon far outside",
        first(segmentation=[[1e9, 1e9, 1e9, 0, 0, 0]]),
        (REFUSED, "mask that cannot be read"),
        SAME,
    ),
    (
        "mask: polygon with text",
        first(segmentation=[["a", 1, 2, 3, 4, 5]]),
        (REFUSED, "mask that cannot be read"),
        SAME,
    ),
    (
        "mask: polygon with NaN",
        first(segmentation=[[float("nan"), 1, 2, 3, 4, 5]]),
        (REFUSED, "mask that cannot be read"),
        SAME,
    ),
    (
        "mask: run lengths of another size",
        first(segmentation=dict(size=[8, 9], counts=[72])),
        (REFUSED, "mask that cannot be read"),
        SAME,
    ),
    (
        "mask: run lengths that do not add up",
        first(segmentation=dict(size=[HEIGHT, WIDTH], counts=[9])),
        (REFUSED, "mask that cannot be read"),
        SAME,
    ),
    (
        "mask: run lengths that are no run lengths",
        first(segmentation=dict(size=[HEIGHT, WIDTH], counts="\x7f" * 50)),
        (REFUSED, "mask that cannot be read"),
        SAME,
    ),
    ("mask: no area", every(area=None), (FILLED, "12 areas"), SAME),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("annotations"))


def outcome(folder, split, content, with_masks):
    """Read a file; return the kind of the outcome, all messages, and the evaluator."""
    write_data(folder, content)
    try:
        _, evaluator, messages = read_split(folder, split, with_masks=with_masks)
    except InputError as e:
        return REFUSED, str(e), None
    (summary,) = (text for level, text in messages if level == logging.INFO)
    warnings = [text for level, text in messages if level == logging.WARNING]
    if warnings:
        kind = WARNED
    elif FILLED in summary:
        kind = FILLED
    else:
        kind = TOLD if "left out" in summary else USED
    return kind, "\n".join([*warnings, summary]), evaluator


def cell_of(kind, messages):
    """Return the words of a message for a table, without examples, cures and names of files."""
    text = messages.partition("\n")[0]
    if kind == FILLED:
        text = text[text.index(FILLED) + len(f"{FILLED}: ") :]
    text = re.sub(
        r",? \(?first annotation.*|: (set|compare|multiply|there is|what is).*|; .*", "", text
    )
    text = re.sub(r"( in)? [^ ]*(train|val)\.json|^[^ ]*(train|val)\.json ", "", text)
    return kind if kind == USED else f"{kind}: {text}"


def test_each_fault_is_mended_told_or_refused_before_the_first_iteration(folder, check_table):
    rows = [["fault", "training", "evaluation"]]
    for fault, content, training, evaluation in FAULTS:
        with_masks = fault.startswith("mask:")
        cells = []
        for split, expected in [("train", training), ("val", evaluation)]:
            kind, pattern = training if expected is SAME else expected
            found, messages, evaluator = outcome(folder, split, content, with_masks)
            assert found == kind and re.search(pattern, messages), (fault, split, found, messages)
            if kind in (USED, FILLED) and evaluator is not None and "width of half" not in fault:
                # pycocotools reads all of it, and finds what is predicted at the right places.
                key = "segm_mAP" if with_masks else "bbox_mAP"
                assert perfect_ap(evaluator, GOOD, key) > 0.99, fault
            cells.append(cell_of(kind, messages))
        rows.append([fault, cells[0], "the same" if cells[1] == cells[0] else cells[1]])
    check_table("annotations", rows)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"{", "holds no JSON"),
        (b"\xff\xfe\xfd", "holds no JSON"),
        (b"[" * 10**5, "holds no JSON"),
        (b"3", "it holds a int"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_json_object_are_named(data, message, tmp_path):
    if data is not None:
        (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.json.* {message}"):
        read_coco(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_encodings_and_byte_order_marks_are_read(encoding, tmp_path):
    content = {"categories": [{"name": "Stra\u00dfe"}]}
    (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert read_coco(tmp_path / "a.json") == content
