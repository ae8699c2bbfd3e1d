"""Details of the formats: shapes, layouts, odd files, and all that is left out or changed."""

import base64
import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.conversion.convert import plan_conversion
from gfnet_dense.datasets.conversion.shapes import ellipse, rotated_box
from gfnet_dense.utils.errors import InputError
from tests import labeling_tools as tools
from tests.conftest import needs_operators
from tests.datasets.conversion.results import convert, faults, label_map, objects

SQUARE = [[10, 10], [20, 10], [20, 20], [10, 20]]


@pytest.fixture(scope="module")
def scenes():
    return tools.draw_scenes(3)


@pytest.fixture
def labelme(tmp_path):
    """Return a function that writes an image of 60 x 40 and labelme's JSON with some shapes."""

    def write(*shapes, name="a", **more):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(list(name.encode())).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        content = dict(
            shapes=shapes, imagePath=f"{name}.png", imageHeight=40, imageWidth=60, **more
        )
        (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return write


def shape(label, points=SQUARE, kind="polygon", group=None, **more):
    return dict(label=label, points=points, shape_type=kind, group_id=group, **more)


def reasons(plan):
    """Return the number of things for each reason, those left out and those changed."""
    both = plan.source.left_out | plan.source.notes
    return {reason: count for reason, (count, _) in both.items()}


# ------------------------------------------------------------------------------------------ labelme


def test_corners_of_a_rectangle_in_any_order(labelme, tmp_path):
    corners = ([[5, 30], [25.5, 10.25]], [[25.5, 30], [5, 10.25]], [[5, 10.25], [25.5, 30]])
    convert(labelme(*(shape("a", each, "rectangle") for each in corners)), tmp_path / "o", "coco")
    assert [each[1] for each in objects(tmp_path / "o")["a.png"]] == [[5, 10.25, 20.5, 19.75]] * 3


def test_circles_have_the_area_of_their_pixels(labelme, tmp_path):
    source = labelme(shape("a", [[30, 20], [30, 32]], "circle"))
    convert(source, tmp_path / "o", "masks")
    y, x = np.mgrid[:40, :60] + 0.5
    distance = np.hypot(x - 30, y - 20)
    labels = label_map(tmp_path / "o", "a")
    assert labels[distance < 11.5].all() and not labels[distance > 12.5].any()
    convert(source, tmp_path / "c", "coco")
    ((_, box, _),) = objects(tmp_path / "c")["a.png"]
    assert box == pytest.approx([18, 8, 24, 24])


def test_groups_are_one_object_and_other_shapes_are_counted(labelme, tmp_path):
    other = [[30, 10], [40, 10], [40, 20], [30, 20]]
    source = labelme(
        shape("a", group=1), shape("a", other, group=1), shape("b", other, group=1),
        shape("a"), shape("a", [[1, 1], [2, 2]], "line"), shape("b", [[1, 1]], "point"),
        shape("a", [[1, 1], [5, 5]]), shape("a", [[70, 10], [80, 10], [75, 20]]),
        shape("a", [[50, 10], [70, 10], [70, 20], [50, 20]]),
        shape("b", [[3, 3], [3, 9]], "rectangle"),
    )  # fmt: skip
    plan = convert(source, tmp_path / "o", "coco")
    found = objects(tmp_path / "o")["a.png"]
    assert [each[:2] for each in found] == [
        ("a", [10, 10, 30, 10]), ("b", [30, 10, 10, 10]), ("a", [10, 10, 10, 10]),
        ("a", [50, 10, 10, 10]),
    ]  # fmt: skip
    assert len(found[0][2]["segmentation"]) == 2 and found[0][2]["area"] == 200
    assert reasons(plan) == {
        "shapes of the type line, which have no area": 1,
        "shapes of the type point, which have no area": 1,
        "polygons of fewer than three points": 1,
        "objects outside of their image": 1,
        "objects without an area": 1,
        "objects that reach out of their image have a clipped box": 1,
    }


def test_a_group_of_a_mask_and_a_polygon_is_their_union(labelme, tmp_path):
    mask = base64.b64encode(tools.as_png(np.ones((10, 10), bool))).decode()
    part = shape("a", [[15, 15], [24, 24]], "mask", 3, mask=mask)
    convert(labelme(shape("a", group=3), part), tmp_path / "o", "masks")
    expected = np.zeros((40, 60), int)
    expected[10:20, 10:20] = expected[15:25, 15:25] = 1
    assert (label_map(tmp_path / "o", "a") == expected).all()


def test_ignored_areas_background_and_overlaps(labelme, tmp_path):
    large = [[0, 0], [30, 0], [30, 30], [0, 30]]
    hole = [[12, 12], [14, 12], [14, 14], [12, 14]]
    ignored = [[25, 25], [40, 25], [40, 35], [25, 35]]
    source = labelme(
        shape("b", hole), shape("_background_", [[2, 2], [4, 2], [4, 4], [2, 4]]),
        shape("__ignore__", ignored), shape("a"), shape("b", large),
    )  # fmt: skip
    plan = convert(source, tmp_path / "o", "masks")
    expected = np.zeros((40, 60), int)
    expected[:30, :30], expected[25:35, 25:40] = 2, 255
    expected[10:20, 10:20], expected[12:14, 12:14], expected[2:4, 2:4] = 1, 2, 0
    assert plan.classes == ["background", "a", "b"]
    assert (label_map(tmp_path / "o", "a") == expected).all()
    plan = convert(source, tmp_path / "c", "coco")
    assert [each[0] for each in objects(tmp_path / "c")["a.png"]] == ["b", "a", "b"]
    assert plan.classes == ["a", "b"]
    assert reasons(plan) == {
        "areas of __ignore__, which COCO files cannot hold": 1,
        "objects of the background, which is no class": 1,
    }


def test_images_without_a_json_are_left_out_and_embedded_ones_written(labelme, tmp_path):
    source = labelme(shape("a"))
    embedded = base64.b64encode((source / "a.png").read_bytes()).decode()
    labelme(name="empty")
    labelme(shape("a"), name="b", imageData=embedded)
    shutil.move(source / "b.png", source / "unlabeled.png")
    (source / "package.json").write_text("{}")
    plan = convert(source, tmp_path / "o", "coco")
    assert sorted(objects(tmp_path / "o")) == ["a.png", "b.png", "empty.png"]
    written = (tmp_path / "o/images/train/b.png").read_bytes()
    assert written == (source / "a.png").read_bytes()
    assert reasons(plan) == {
        "JSON files of something else than labelme": 1,
        "images without a JSON file, which are not labeled": 1,
    }


@pytest.mark.parametrize("path", ["..\\photos\\a.png", "C:\\Users\\x\\a.png", "/home/x/a.png"])
def test_images_in_other_folders_with_paths_of_other_machines(path, labelme, tmp_path):
    source = labelme(shape("a"))
    (tmp_path / "photos").mkdir()
    shutil.move(source / "a.png", tmp_path / "photos/a.png")
    content = json.loads((source / "a.json").read_text())
    text = json.dumps({**content, "imagePath": path})
    (source / "a.json").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    options = {} if path.startswith("..") else dict(images=tmp_path / "photos")
    convert(source, tmp_path / "o", "coco", **options)
    assert list(objects(tmp_path / "o")) == ["a.png"]


# --------------------------------------------------------------------------------------------- CVAT


def cvat(folder, content, labels=("b", "a")):
    """Write a file of CVAT: an image of 60 x 40 in the subset Train, and one without shapes."""
    (folder / "images").mkdir(parents=True)
    for name in ("x.png", "y.png"):
        Image.effect_noise((60, 40), 50).convert("RGB").save(folder / "images" / name)
    names = "".join(f"<label><name>{name}</name></label>" for name in labels)
    (folder / "annotations.xml").write_text(
        f"<annotations><meta><job><labels>{names}</labels></job></meta>"
        f'<image id="0" name="x.png" subset="Train" width="60" height="40">{content}</image>'
        '<image id="1" name="y.png" subset="Validation" width="60" height="40"></image>'
        "</annotations>"
    )
    return folder


def test_shapes_of_cvat(tmp_path):
    source = cvat(
        tmp_path / "in",
        '<box label="a" xtl="10" ytl="5" xbr="30.25" ybr="15"/>'
        '<box label="a" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<ellipse label="b" cx="30" cy="20" rx="10" ry="4" rotation="0"/>'
        '<polyline label="a" points="1,1;2,2"/><points label="a" points="1,1"/>'
        '<polygon label="c" points="1,1;9,1;9,9"/>',
    )
    plan = convert(source, tmp_path / "o", "coco", val=None)
    assert plan.classes == ["b", "a", "c"]  # the order of the job, then a label that it lacks
    boxes = [each[1] for each in objects(tmp_path / "o")["x.png"]]
    expected = ([10, 5, 20.25, 10], [15, 5, 10, 20], [20, 16, 20, 8], [1, 1, 8, 8])
    assert all(box == pytest.approx(other) for box, other in zip(boxes, expected, strict=True))
    assert objects(tmp_path / "o", "val") == {"y.png": []}  # of the subset Validation
    assert reasons(plan) == {
        "shapes of the type polyline, which have no area": 1,
        "shapes of the type points, which have no area": 1,
        "rotated boxes are written as the upright boxes around them": 1,
        "objects have a box and no outline: a detector of boxes can be trained, no Mask R-CNN": 2,
    }


def test_corners_of_a_rotated_box():
    x, y, w, h = 10.0, 20.0, 30.0, 8.0
    angle = math.radians(25)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.array([(sx * w / 2, sy * h / 2) for sx in (-1, 1) for sy in (-1, 1)]) @ turn.T
    corners += (x + w / 2, y + h / 2)
    found = np.reshape(rotated_box((x, y, w, h), 25), (4, 2))
    assert np.allclose(sorted(found.tolist()), sorted(corners.tolist()))


def test_a_rotated_ellipse_lies_on_its_curve():
    points = np.reshape(ellipse(50, 40, 20, 8, 0.7), (-1, 2)) - (50, 40)
    along = points @ (math.cos(0.7), math.sin(0.7))
    across = points @ (-math.sin(0.7), math.cos(0.7))
    assert np.allclose((along / 20) ** 2 + (across / 8) ** 2, 1)
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(math.pi * 20 * 8, rel=0.01)


# --------------------------------------------------------------------------------------- Pascal VOC


def test_names_sizes_lists_and_files_of_voc_itself(scenes, tmp_path):
    source = tmp_path / "in"
    tools.write_voc(source, scenes)
    path = source / "Annotations/0000.xml"
    text = path.read_text().replace("0000.jpg", "stale.jpg")
    text = text.replace("<width>128", "<width>0").replace("<height>96", "<height>0")
    before = [thing.box for thing in tools.things(scenes[0])]
    text = text.replace(
        "<size>", "<source><database>The VOC2007 Database</database></source><size>"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    lists = source / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0000\r\n")
    (lists / "val.txt").write_text("0001\ngone\n")
    (lists / "person_train.txt").write_text("0002 -1\n")
    (source / "labelmap.txt").write_text("# label:color\nbackground:0,0,0::\nperson:1,2,3::\n")
    plan = convert(source, tmp_path / "o", "coco", val=None)
    assert plan.classes == ["person", "car"]  # the list, then a class that it lacks
    ((_, found),) = objects(tmp_path / "o").items()
    # Pixels from 1 on, both corners in the box
    assert [each[1] for each in found] == [
        [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1] for x1, y1, x2, y2 in before
    ]
    assert list(objects(tmp_path / "o", "val")) == ["0001.jpg"]
    assert reasons(plan)["images in no list of ImageSets"] == 1
    assert reasons(plan)["names in ImageSets without an annotated image"] == 1


@needs_operators
def test_difficult_objects_count_in_mmdetection_as_those_of_its_own_voc_reader(scenes, tmp_path):
    from mmdet.datasets import CocoDataset, XMLDataset

    source = tmp_path / "in"
    tools.write_voc(source, scenes[:1])
    path = source / "Annotations/0000.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    plan = convert(source, tmp_path / "o", "coco")
    assert any(words.startswith("difficult objects have iscrowd 1") for words in reasons(plan))
    metainfo = dict(classes=tuple(plan.classes))
    (tmp_path / "list.txt").write_text("0000\n")
    theirs = XMLDataset(
        img_subdir="JPEGImages", ann_subdir="Annotations", data_root=str(source),
        ann_file=str(tmp_path / "list.txt"), metainfo=metainfo, test_mode=True,
        data_prefix=dict(sub_data_root=""),
    )  # fmt: skip
    ours = CocoDataset(
        ann_file=str(tmp_path / "o/annotations/train.json"), metainfo=metainfo, test_mode=True,
        data_prefix=dict(img=str(tmp_path / "o/images/train")),
    )  # fmt: skip
    first, second = (dataset[0]["instances"] for dataset in (theirs, ours))
    assert [each["ignore_flag"] for each in first] == [each["ignore_flag"] for each in second]
    assert [each["ignore_flag"] for each in first] == [1] + [0] * (len(first) - 1)
    assert [each["bbox_label"] for each in first] == [each["bbox_label"] for each in second]


def test_masks_of_cvat_in_colors(scenes, tmp_path):
    source = tmp_path / "in"
    tools.write_voc_masks(source, scenes)
    (source / "class_names.txt").unlink()
    (source / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:250,50,83::\ncar:1,2,3::\n"
        "__ignore__:9,9,9::\n"
    )
    table = np.full((256, 3), 9, np.uint8)
    table[:3] = (0, 0, 0), (250, 50, 83), (1, 2, 3)
    expected = []
    for kind in ("SegmentationClass", "SegmentationObject"):
        for path in sorted((source / kind).iterdir()):
            values = np.array(Image.open(path))
            expected += [values] if kind == "SegmentationClass" else []
            values[values == 255] = 0 if kind == "SegmentationObject" else 255
            Image.fromarray(table[values] if kind.endswith("Class") else values).save(path)
    plan = convert(source, tmp_path / "o", "masks")
    assert plan.classes == ["background", "person", "car"]
    for i, labels in enumerate(expected):
        assert (label_map(tmp_path / "o", f"{i:04d}") == labels).all()
    convert(source, tmp_path / "c", "coco")
    numbers = [len(set(np.unique(n)) - {0}) for n in read_all(source / "SegmentationObject")]
    assert [len(each) for each in objects(tmp_path / "c").values()] == numbers


def read_all(folder):
    return [np.array(Image.open(path)) for path in sorted(folder.iterdir())]


# --------------------------------------------------------------------------------------------- YOLO


def test_older_layouts_of_yolo(scenes, tmp_path):
    tools.write_yolo(tmp_path / "new", scenes)
    convert(tmp_path / "new", tmp_path / "o", "coco")
    old = tmp_path / "old"
    (old / "obj_train_data").mkdir(parents=True)
    for path in (tmp_path / "new").rglob("0*.*"):
        shutil.copy(path, old / "obj_train_data")
    (old / "obj.names").write_text("person\r\ncar\r\n")
    names = [f"data/obj_train_data/{i:04d}.jpg\r\n" for i in range(3)]
    (old / "train.txt").write_text("".join(names[:2]))
    (old / "valid.txt").write_text(names[2])
    convert(old, tmp_path / "p", "coco", val=None)
    expected = objects(tmp_path / "o")
    both = objects(tmp_path / "p") | objects(tmp_path / "p", "val")
    assert list(objects(tmp_path / "p", "val")) == ["0002.jpg"]
    assert {k: [e[:2] for e in v] for k, v in both.items()} == {
        k: [e[:2] for e in v] for k, v in expected.items()
    }
    for name in ("train.txt", "valid.txt"):
        (old / name).unlink()
    (old / "obj.names").rename(old / "obj_train_data/classes.txt")
    convert(old, tmp_path / "q", "coco")
    assert list(objects(tmp_path / "q")) == list(expected)


def test_lists_empty_images_keypoints_and_paths_of_roboflow(scenes, tmp_path):
    source = tmp_path / "in"
    tools.write_yolo(source, scenes)
    (source / "labels/train/0001.txt").unlink()
    (source / "labels/train/0002.txt").write_text("1 0.5 0.5 0.1 0.1 0.5 0.5 2\n")
    (source / "train.txt").write_text("./images/train/0000.jpg\nimages/train/0001.jpg\n")
    (source / "data.yaml").write_text(
        "train: [train.txt]\nval: ../images/train/0002.jpg\nnames: {0: person, 1: car}\n"
    )
    (source / "val.txt").write_text("images/train/0002.jpg")
    text = (source / "data.yaml").read_text()
    (source / "data.yaml").write_text(
        text.replace("../images/train/0002.jpg", "../val.txt") + "kpt_shape: [1, 3]\n"
    )
    (source / "labels/train/0000.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.25 0.5\r\n")
    plan = convert(source, tmp_path / "o", "coco", val=None)
    found = objects(tmp_path / "o")
    assert found["0000.jpg"][0][1] == [48, 24, 32, 48] and found["0001.jpg"] == []
    assert [each[0] for each in objects(tmp_path / "o", "val")["0002.jpg"]] == ["car"]
    assert reasons(plan)["images without a label file, which are background"] == 1
    assert reasons(plan)["keypoints of objects"] == 1


# --------------------------------------------------------------------------------------------- VIA


def test_shapes_of_via(scenes, tmp_path):
    source = tmp_path / "in"
    path = tools.save_image(scenes[0], source / "0000.jpg")
    shapes = [
        dict(name="rect", x=3, y=4, width=10, height=12),
        dict(name="circle", cx=40, cy=40, r=8),
        dict(name="ellipse", cx=60, cy=40, rx=9, ry=5, theta=math.pi / 2),
        dict(name="point", cx=1, cy=1),
    ]
    attributes = ["a", {"b": True, "c": False}, "b", "a"]  # of a text field and of a checkbox
    regions = {
        str(i): dict(shape_attributes=each, region_attributes=dict(kind=value))
        for i, (each, value) in enumerate(zip(shapes, attributes, strict=True))
    }  # a dict, as in VIA 1
    content = {"0000.jpg1": dict(filename=path.name, size=1, regions=regions)}
    (source / "via.json").write_text(json.dumps(content))
    plan = convert(source, tmp_path / "o", "coco")
    found = objects(tmp_path / "o")["0000.jpg"]
    assert [each[0] for each in found] == ["a", "b", "b"]
    expected = ([3, 4, 10, 12], [32, 32, 16, 16], [55, 31, 10, 18])
    for (_, box, _), other in zip(found, expected, strict=True):
        assert box == pytest.approx(other, abs=0.1)
    assert reasons(plan)["regions of the type point, which have no area"] == 1


# ------------------------------------------------------------------------------------ COCO, classes


@pytest.mark.parametrize(
    "images, annotations",
    [
        ("images/default", "annotations/instances_default.json"),  # CVAT
        ("train2017", "annotations/instances_train2017.json"),
        ("train", "train/_annotations.coco.json"),  # Roboflow
        ("photos", "result.json"),
    ],
)
def test_layouts_of_coco(images, annotations, scenes, tmp_path):
    tools.write_coco(tmp_path / "original", scenes)
    source = tmp_path / "in"
    (source / images).parent.mkdir(parents=True)
    (source / annotations).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tmp_path / "original/images", source / images, dirs_exist_ok=True)
    shutil.copy(tmp_path / "original/annotations/instances.json", source / annotations)
    (source / annotations).with_name("captions_train2017.json").write_text(
        '{"images": [], "annotations": []}'
    )
    convert(source, tmp_path / "o", "coco")
    convert(source / annotations, tmp_path / "p", "coco", images=source / images)
    for out in ("o", "p"):
        assert list(objects(tmp_path / out)) == ["0000.jpg", "0001.jpg", "0002.jpg"]


def test_splits_of_coco_files(scenes, tmp_path):
    for split, chosen in (("train2017", scenes[:2]), ("val2017", scenes[2:])):
        tools.write_coco(tmp_path / split, chosen)
        source = tmp_path / "in"
        (source / "annotations").mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / split / "images", source / split)
        shutil.copy(
            tmp_path / split / "annotations/instances.json",
            source / f"annotations/instances_{split}.json",
        )
    convert(source, tmp_path / "o", "coco", val=None)
    # Both splits have an image 0000.jpg.
    assert list(objects(tmp_path / "o")) == ["train2017/0000.jpg", "train2017/0001.jpg"]
    assert list(objects(tmp_path / "o", "val")) == ["val2017/0000.jpg"]
    copy = tmp_path / "o/images/val/val2017/0000.jpg"
    assert copy.read_bytes() == (source / "val2017/0000.jpg").read_bytes()


def test_images_of_a_validation_alone_are_split_anew(scenes, tmp_path):
    tools.write_coco(tmp_path / "in", scenes)
    path = tmp_path / "in/annotations/instances.json"
    path.rename(path.with_name("instances_val2017.json"))
    plan = convert(tmp_path / "in", tmp_path / "o", "coco")
    assert len(objects(tmp_path / "o")) == 3
    assert reasons(plan)["images of val are split anew, since the source has no training"] == 3


def test_the_nearest_image_of_a_name_is_taken(scenes, tmp_path):
    for year in ("VOC2007", "VOC2012"):
        tools.write_voc(tmp_path / "in" / year, scenes[:1])
        scenes = scenes[::-1]
    plan = convert(tmp_path / "in", tmp_path / "o", "coco")
    for image in plan.source.images:
        assert image.path.parts[-3] == image.source.parts[-3]


def test_links_to_image_files_keep_the_names_of_the_links(labelme, tmp_path):
    source = labelme(shape("a"))
    (source / "a.png").rename(tmp_path / "0123abcd")
    (source / "a.png").symlink_to(tmp_path / "0123abcd")
    convert(source, tmp_path / "o", "masks")
    assert (tmp_path / "o/images/train/a.png").read_bytes() == (tmp_path / "0123abcd").read_bytes()
    assert not (tmp_path / "o/images/train/a.png").is_symlink()


def test_many_images_are_read_by_several_processes(tmp_path):
    for i in range(140):
        array = np.random.default_rng(i).integers(0, 255, (8, 10, 3), np.uint8)
        for kind in ("images", "masks"):
            path = tmp_path / "in" / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array if kind == "images" else array[..., 0] // 128).save(path)
    plan = convert(tmp_path / "in", tmp_path / "o", "masks", val=None)
    splits = [image.split for image in plan.source.images]
    assert splits.count("val") == 28
    for image in plan.source.images[:5]:
        found = label_map(tmp_path / "o", image.path.stem, image.split)
        assert (found == np.array(Image.open(image.source))).all()


def test_chosen_classes_in_their_order(scenes, tmp_path):
    tools.write_coco(tmp_path / "in", scenes)
    plan = convert(tmp_path / "in", tmp_path / "o", "masks", classes=["car"])
    assert plan.classes == ["background", "car"]
    number = sum(t.name == "person" for scene in scenes for t in tools.things(scene))
    assert reasons(plan) == {"objects of other classes, person": number}
    plan = convert(tmp_path / "in", tmp_path / "p", "coco", classes=["car", "person"])
    content = json.loads((tmp_path / "p/annotations/train.json").read_text())
    assert [each["name"] for each in content["categories"]] == ["car", "person"]


def test_chosen_classes_of_masks_make_others_not_labeled(scenes, tmp_path):
    tools.write_color_masks(tmp_path / "in", scenes)
    options = dict(colors=tmp_path / "in/colors.txt", classes=["tree", "sky"])
    plan = convert(tmp_path / "in", tmp_path / "o", "masks", **options)
    assert plan.classes == ["background", "tree", "sky"]
    for i, scene in enumerate(scenes):
        theirs = tools.index_map(scene)
        expected = np.full_like(theirs, 255)
        for value, name in enumerate(plan.classes):
            expected[theirs == tools.STUFF.index(name)] = value
        assert (label_map(tmp_path / "o", f"{i:04d}") == expected).all()
    total = sum((tools.index_map(each) == tools.STUFF.index("road")).sum() for each in scenes)
    assert reasons(plan)["pixels of other classes, road, which become 255"] == total


def test_the_same_fault_in_many_images_is_found_before_anything_is_written(scenes, tmp_path):
    tools.write_labelme(tmp_path / "in", scenes)
    for i in range(3):
        (tmp_path / f"in/{i:04d}.jpg").unlink()
    assert len(faults(tmp_path / "in", tmp_path / "o")) == 3
    assert not any(path.name.startswith(".o") for path in tmp_path.iterdir())


def test_colors_as_text_in_three_forms(scenes, tmp_path):
    tools.write_color_masks(tmp_path / "in", scenes)
    rows = [line.split() for line in (tmp_path / "in/colors.txt").read_text().splitlines()]
    forms = (
        "{0} {1} {2} {3}",
        "{0}:{1},{2},{3}::",
        "{0} #{1:02x}{2:02x}{3:02X}",
        "{0},{1},{2},{3}",
    )
    lines = [
        forms[i % 4].format(f"{name} x", *map(int, color)) for i, (name, *color) in enumerate(rows)
    ]
    (tmp_path / "table.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    plan = plan_conversion(
        tmp_path / "in", tmp_path / "o", "masks", val=0, colors=tmp_path / "table.txt"
    )
    assert plan.classes == [f"{name} x" for name in tools.STUFF] and not plan.source.problems


# --------------------------------------------------------------------------- outlines, names, lists


def test_a_rotated_box_of_cvat_at_the_border_is_the_one_around_its_visible_part(tmp_path):
    box = '<box label="a" xtl="50" ytl="10" xbr="70" ybr="30" rotation="45"/>'
    convert(cvat(tmp_path / "in", box), tmp_path / "o", "coco", val=None)
    ((_, found, _),) = objects(tmp_path / "o")["x.png"]
    half = math.hypot(10, 10)  # a square on its tip at (60, 20), of which the left half is seen
    assert found == pytest.approx([60 - half, 20 - half, half, 2 * half])


def test_blanks_around_labels_and_names_that_are_almost_the_same(labelme, tmp_path):
    source = labelme(shape("car"), shape(" car "), shape("Car"))
    plan = convert(source, tmp_path / "o", "coco")
    assert plan.classes == ["Car", "car"]
    assert [each[0] for each in objects(tmp_path / "o")["a.png"]] == ["car", "car", "Car"]
    (words,) = reasons(plan)
    assert "almost the same name, and are kept apart: Car, car" in words
    plan = convert(source, tmp_path / "p", "coco", classes=["car"])
    assert reasons(plan) == {"objects of other classes, Car": 1}
    polygon = '<polygon label=" a" points="1,1;9,1;9,9"/>'
    source = cvat(tmp_path / "cvat", polygon, ("b ", "a"))
    plan = convert(source, tmp_path / "q", "coco", val=None)
    assert plan.classes == ["b", "a"]


def test_thin_parts_of_objects_of_several_are_counted(labelme, tmp_path):
    thin = [[30, 10], [40, 20]]
    mask = base64.b64encode(tools.as_png(np.ones((10, 10), bool))).decode()
    source = labelme(
        shape("a", group=1), shape("a", thin, group=1), shape("b", thin, group=2),
        shape("b", [[15, 15], [24, 24]], "mask", 2, mask=mask),
        shape("c", [[3, 3], [3, 3]], "circle", 3), shape("c", [[1, 2], [5, 9]], "rectangle", 3),
    )  # fmt: skip
    plan = convert(source, tmp_path / "o", "coco")
    assert reasons(plan)["polygons of fewer than three points"] == 3
    found = objects(tmp_path / "o")["a.png"]
    assert [each[:2] for each in found] == [
        ("a", [10, 10, 10, 10]), ("b", [15, 15, 10, 10]), ("c", [1, 2, 4, 7])
    ]  # fmt: skip
    assert found[1][2]["area"] == 100


def test_thin_parts_in_coco_are_counted(scenes, tmp_path):
    tools.write_coco(tmp_path / "in", scenes)
    path = tmp_path / "in/annotations/instances.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] += [[1, 1, 5, 5], [1, 1]]
    path.write_text(json.dumps(content))
    plan = convert(tmp_path / "in", tmp_path / "o", "coco")
    assert reasons(plan) == {"polygons of fewer than three points in objects of several": 2}


def test_label_maps_of_the_classes_that_have_outlines(labelme, tmp_path):
    source = labelme(shape("a"), shape("b", [[30, 5], [50, 15]], "rectangle"))
    plan = convert(source, tmp_path / "o", "masks", classes=["a"])
    assert reasons(plan) == {"objects of other classes, b": 1}
    assert label_map(tmp_path / "o", "a").sum() == 100


def test_rectangles_of_what_is_ignored_are_255_to_their_corners(labelme, tmp_path):
    corners = [[30, 5], [50, 15]]
    source = labelme(
        shape("a"), shape("__ignore__", corners, "rectangle"),
        shape("_background_", [[12, 12], [14, 14]], "rectangle"),
    )  # fmt: skip
    convert(source, tmp_path / "o", "masks")
    expected = np.zeros((40, 60), int)
    expected[10:20, 10:20], expected[12:14, 12:14], expected[5:15, 30:50] = 1, 0, 255
    assert (label_map(tmp_path / "o", "a") == expected).all()


@pytest.mark.parametrize("to", ["masks", "coco"])
def test_the_background_may_be_among_the_chosen_classes(to, labelme, tmp_path):
    source = labelme(shape("car"), shape("person"))
    first = convert(source, tmp_path / "o", to).classes
    for i, chosen in enumerate((first, ["background", *first[-2:]])):
        assert convert(source, tmp_path / f"p{i}", to, classes=chosen).classes == first


def test_lists_of_voc_with_folders_and_blanks_in_names(tmp_path):
    source, names = tmp_path / "in", ("a/0001", "b/0001", "a/my photo 1", "0002", "my photo")
    for i, name in enumerate(names):
        image, xml = source / f"JPEGImages/{name}.png", source / f"Annotations/{name}.xml"
        for path in (image, xml):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (i, 0, 0)).save(image)
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        thing = f"<object><name>a</name><bndbox>{box}</bndbox></object>"
        xml.write_text(f"<annotation><filename>{image.name}</filename>{thing}</annotation>")
    lists = source / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a/0001\nmy photo 1\n0002  1\n")
    (lists / "val.txt").write_text("b/0001\nmy photo\n")
    plan = convert(source, tmp_path / "o", "coco", val=None)
    split = {
        image.source.relative_to(source).as_posix()[12:-4]: image for image in plan.source.images
    }
    assert {name: split[name].split for name in names} == {
        "a/0001": "train", "b/0001": "val", "a/my photo 1": "train", "0002": "train",
        "my photo": "val",
    }  # fmt: skip
    for name in names:
        assert split[name].path == source / f"JPEGImages/{name}.png"


def test_masks_of_voc_in_folders(scenes, tmp_path):
    source = tmp_path / "in"
    tools.write_voc_masks(source, scenes[:2])
    for kind in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        for i, folder in enumerate("ab"):
            (path,) = (source / kind).glob(f"{i:04d}.*")
            (source / kind / folder).mkdir()
            path.rename(source / kind / folder / f"0000{path.suffix}")
    lists = source / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a/0000\n")
    (lists / "val.txt").write_text("b/0000\n")
    convert(source, tmp_path / "o", "masks", val=None)
    for folder, split in (("a", "train"), ("b", "val")):
        theirs = np.array(Image.open(source / f"SegmentationClass/{folder}/0000.png"))
        assert (label_map(tmp_path / "o", f"{folder}/0000", split) == theirs).all()
    convert(source, tmp_path / "c", "coco", val=None)
    assert objects(tmp_path / "c")["a/0000.jpg"] and objects(tmp_path / "c", "val")["b/0000.jpg"]


def sort_palette(path, order):
    """Rewrite a palette image with the same colors at other indices."""
    image = Image.open(path)
    values, colors = np.array(image), np.reshape(image.getpalette(), (-1, 3))
    new = np.zeros(256, np.uint8)
    new[order] = np.arange(len(order))
    result = Image.fromarray(new[values], "P")
    result.putpalette(colors[order].ravel().tolist())
    result.save(path)


def test_a_palette_that_was_sorted_anew_is_read_by_its_colors(scenes, tmp_path):
    source = tmp_path / "in"
    tools.write_voc_masks(source, scenes)
    (source / "class_names.txt").unlink()
    (source / "labelmap.txt").write_text(
        "background:0,0,0::\nperson:250,50,83::\ncar:1,2,3::\n__ignore__:224,224,192::\n"
    )
    palette = np.random.default_rng(3).integers(9, 250, (256, 3))
    palette[:3], palette[255] = [(0, 0, 0), (250, 50, 83), (1, 2, 3)], (224, 224, 192)
    for path in source.rglob("*.png"):
        image = Image.open(path)
        image.putpalette(palette.ravel().tolist())
        image.save(path)
    convert(source, tmp_path / "o", "masks")
    convert(source, tmp_path / "c", "coco")
    order = [255, 2, 0, 1, *range(3, 255)]
    for path in source.rglob("*.png"):
        sort_palette(path, order)
    convert(source, tmp_path / "o2", "masks")
    convert(source, tmp_path / "c2", "coco")
    for i in range(3):
        first, second = (label_map(tmp_path / out, f"{i:04d}") for out in ("o", "o2"))
        assert (first == second).all() and {0, 255} < set(np.unique(first))
    first, second = (objects(tmp_path / out) for out in ("c", "c2"))
    for name in first:
        rles = [
            [each[2]["segmentation"]["counts"] for each in out[name]] for out in (first, second)
        ]
        assert sorted(rles[0]) == sorted(rles[1])


# -------------------------------------------------------------------------------------- masks alone


@pytest.fixture
def masks(tmp_path):
    """Return a function that writes images with masks from arrays, or from images of Pillow."""

    def write(*arrays, palette=None):
        for i, values in enumerate(arrays):
            for kind in ("images", "masks"):
                (tmp_path / "in" / kind).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.asarray(values))
            if palette:
                image.putpalette(palette)
            image.save(tmp_path / f"in/masks/{i}.png")
            Image.new("RGB", image.size, (i, 0, 0)).save(tmp_path / f"in/images/{i}.png")
        return tmp_path / "in"

    return write


def stripes(*values):
    """Return (12, 10) uint8 whose lowest rows have the given values, all others the first."""
    result = np.full((12, 10), values[0], np.uint8)
    for row, value in enumerate(values):
        result[-1 - row] = value
    return result


@pytest.mark.parametrize("palette", [[255, 255, 255, 0, 0, 0], [0, 0, 0, 255, 255, 255]])
def test_palettes_of_black_and_white_are_read_by_color(palette, masks, tmp_path):
    white = palette.index(255) // 3
    drawn = [stripes(1 - white, white), stripes(white), stripes(1 - white)]
    convert(masks(*drawn, palette=palette), tmp_path / "o", "masks")
    for i, values in enumerate(drawn):
        assert (label_map(tmp_path / "o", str(i)) == (values == white)).all()


def test_other_palettes_are_read_by_index(masks, tmp_path):
    source = masks(stripes(0, 1), stripes(0), palette=[0, 0, 0, 128, 0, 0])
    convert(source, tmp_path / "o", "masks")
    assert (label_map(tmp_path / "o", "0") == stripes(0, 1)).all()
    sentences = faults(masks(stripes(0, 1), palette=[128, 0, 0, 0, 0, 0]), tmp_path / "p", "masks")
    assert "black at another index than 0, and nothing tells which" in sentences[0]
    (tmp_path / "colors.txt").write_text("ground 0 0 0\nred 128 0 0\n")
    convert(source, tmp_path / "q", "masks", colors=tmp_path / "colors.txt")
    assert (label_map(tmp_path / "q", "0") == 1 - stripes(0, 1)).all()


def test_class_indices_with_names(masks, tmp_path):
    drawn = [stripes(0, 1, 2, 255), stripes(2, 1)]
    plan = convert(masks(*drawn), tmp_path / "o", "masks", classes=["ground", "road", "car"])
    assert plan.classes == ["ground", "road", "car"]
    for i, values in enumerate(drawn):
        assert (label_map(tmp_path / "o", str(i)) == values).all()
    (sentence,) = faults(
        masks(stripes(0, 3)), tmp_path / "p", "masks", classes=["ground", "road", "car"]
    )
    assert "0.png holds the index 3, accepted are 0..2 (3 classes) and 255" in sentence
    with pytest.raises(InputError, match="hold 0 and 255 alone: these are masks of one class"):
        convert(
            masks(stripes(0, 255), stripes(0)), tmp_path / "q", "masks", classes=["a", "b", "c"]
        )


@pytest.mark.parametrize("value", [1, 255])
def test_two_names_of_masks_of_one_class(value, masks, tmp_path):
    source = masks(stripes(0, value), stripes(0))
    plan = convert(source, tmp_path / "o", "masks", classes=["background", "crack"])
    assert plan.classes == ["background", "crack"]
    assert (label_map(tmp_path / "o", "0") == stripes(0, 1)).all()


def test_255_beside_1_is_what_is_not_labeled_if_both_classes_are_named(masks, tmp_path):
    drawn = [stripes(0, 1, 255), stripes(0, 255), stripes(0, 1)]
    plan = convert(masks(*drawn), tmp_path / "o", "masks", classes=["background", "crack"])
    for i, values in enumerate(drawn):
        assert (label_map(tmp_path / "o", str(i)) == values).all()
    assert plan.source.images[1].label_map.ignored == 10


def test_photos_in_a_folder_whose_name_begins_with_segmentation(masks, tmp_path):
    source = masks(stripes(0, 1))
    (tmp_path / "in/images").rename(tmp_path / "in/images_")
    (tmp_path / "Segmentation of roads").mkdir()
    shutil.move(source / "masks", tmp_path / "Segmentation of roads/masks")
    shutil.move(source / "images_", tmp_path / "Segmentation of roads/images")
    convert(tmp_path / "Segmentation of roads", tmp_path / "o", "masks")
    assert (label_map(tmp_path / "o", "0") == stripes(0, 1)).all()
