"""Each fault of a source is one sentence with its file, and nothing is written."""

import base64
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.conversion.convert import plan_conversion
from gfnet_dense.utils.errors import InputError
from tests import labeling_tools as tools
from tests.datasets.conversion.results import faults

WRITERS = {
    "labelme": tools.write_labelme,
    "labelme-masks": lambda folder, scenes: tools.write_labelme(folder, scenes, "mask"),
    "cvat": tools.write_cvat,
    "cvat-masks": lambda folder, scenes: tools.write_cvat(folder, scenes, "mask"),
    "voc-boxes": tools.write_voc,
    "voc-masks": tools.write_voc_masks,
    "yolo": tools.write_yolo,
    "via": tools.write_via,
    "coco": tools.write_coco,
    "colors": tools.write_color_masks,
    "masks": tools.write_binary_masks,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Two scenes in each format."""
    root, scenes = tmp_path_factory.mktemp("formats"), tools.draw_scenes(2)
    for name, write in WRITERS.items():
        write(root / name, scenes)
    return root


@pytest.fixture
def source_of(originals, tmp_path):
    """Return a function that copies the source of a format and changes one of its files.

    The change is a function from the text of the file to the new one, or from parsed JSON.
    """

    def copy(name, path="", change=None):
        folder = shutil.copytree(originals / name, tmp_path / name)
        if change is not None and path.endswith(".json"):
            content = json.loads((folder / path).read_text())
            change(content)
            (folder / path).write_text(json.dumps(content))
        elif change is not None:
            (folder / path).write_text(change((folder / path).read_text()))
        return folder

    return copy


def stops(source, tmp_path, to="coco", **options):
    """Return the sentence at which a conversion stops as a whole."""
    with pytest.raises(InputError) as error:
        plan_conversion(source, tmp_path / "out", to, **options)
    assert not (tmp_path / "out").exists()
    return str(error.value)


def first_shape(**values):
    return lambda content: content["shapes"][0].update(values)


def mask_of(width, height):
    return base64.b64encode(tools.as_png(np.ones((height, width), bool))).decode()


LABELME = {
    "shapes are no list": (lambda c: c.update(shapes={}), "its shapes are no list"),
    "no object": (lambda c: c.update(shapes=["x"]), "shape 1 is no object of JSON"),
    "no label": (first_shape(label=" "), "shape 1 has no label"),
    "NaN": (
        first_shape(points=[[float("nan"), 1], [2, 3], [4, 5]]),
        "shape 1 has the coordinate nan, which is no finite number",
    ),
    "infinite": (first_shape(points=[[1e999, 1], [2, 3], [4, 5]]), "has the coordinate inf"),
    "huge": (first_shape(points=[[10**400, 1], [2, 3], [4, 5]]), "which is no finite number"),
    "true": (first_shape(points=[[True, 1], [2, 3], [4, 5]]), "has the coordinate True"),
    "points": (first_shape(points=[[1, 2, 3]]), "has the point [1, 2, 3], a point is two numbers"),
    "group": (first_shape(group_id=[1]), "shape 1 has the group_id [1], which is no number"),
    "type": (first_shape(shape_type="cloud"), "is of the type 'cloud'"),
    "corners": (first_shape(shape_type="rectangle"), "is a rectangle of"),
    "far": (
        first_shape(points=[[5000, 1], [2, 3], [4, 5]]),
        "reaches to the coordinate 5000, far outside of the image of 128x96 pixels",
    ),
    "size": (lambda c: c.update(imageHeight="96"), "imageHeight and imageWidth are '96' and 128"),
    "base64": (
        first_shape(shape_type="mask", points=[[0, 0], [1, 1]], mask="?"),
        "shape 1 is a mask that is not in base64",
    ),
    "mask size": (
        first_shape(shape_type="mask", points=[[3, 3], [9, 9]], mask=mask_of(4, 4)),
        "its mask has 4x4 pixels, its box from 3, 3 to 9, 9 another number",
    ),
    "broken mask": (
        first_shape(shape_type="mask", points=[[0, 0], [1, 1]], mask="AAAA"),
        "its mask cannot be read as label map",
    ),
    "image": (
        lambda c: c.update(imagePath="..\\photos\\gone.jpg"),
        "names the image ..\\photos\\gone.jpg, which is not there",
    ),
    "embedded": (
        lambda c: c.update(imagePath="gone.jpg", imageData="?"), "its imageData is not in base64"
    ),
    "embedded and broken": (
        lambda c: c.update(imagePath="gone.jpg", imageData="AAAA"),
        "0001.json cannot be read as image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELME)
def test_labelme(name, source_of, tmp_path):
    change, expected = LABELME[name]
    source = source_of("labelme", "0001.json", change)
    if "gone" in expected or "embedded" in name:
        (source / "0001.jpg").unlink()
    (sentence,) = faults(source, tmp_path / "out")
    assert "0001.json" in sentence and expected in sentence, sentence


@pytest.mark.parametrize(
    "name, path",
    [("labelme", "0001.json"), ("via", "via.json"), ("coco", "annotations/instances.json")],
)
def test_truncated_json_is_named_with_line_and_column(name, path, source_of, tmp_path):
    source = source_of(name)
    text = (source / path).read_text()
    (source / path).write_text(text[: len(text) // 2])
    if name == "labelme":
        (sentence,) = faults(source, tmp_path / "out")
    else:
        sentence = stops(source, tmp_path)
    assert path in sentence and "line " in sentence and ", column " in sentence


@pytest.mark.parametrize(
    "name, path", [("cvat", "annotations.xml"), ("voc-boxes", "Annotations/0001.xml")]
)
def test_truncated_xml_is_named_with_line_and_column(name, path, source_of, tmp_path):
    source = source_of(name, path, lambda text: text[: len(text) // 2])
    sentence = stops(source, tmp_path) if name == "cvat" else faults(source, tmp_path / "out")[0]
    assert path in sentence and "line " in sentence and "no XML" in sentence


def test_entities_that_expand_without_end_are_refused(source_of, tmp_path):
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "{"x" * 100}">{entities}]><annotation>&e11;</annotation>'
    source = source_of("voc-boxes", "Annotations/0001.xml", lambda text: bomb)
    (sentence,) = faults(source, tmp_path / "out")
    assert "0001.xml, line 1" in sentence and "amplification" in sentence


def replaced(old, new):
    def change(text):
        assert old in text
        return text.replace(old, new, 1)

    return change


FAULTS = {
    "cvat video": ("cvat", "annotations.xml", replaced("<image ", '<track id="0" /><image '),
                   'is "CVAT for video"'),
    "cvat size": ("cvat", "annotations.xml", replaced('width="128" ', ""),
                  "has no width and height"),
    "cvat label": ("cvat", "annotations.xml", replaced('label="', 'labels="'), "has no label"),
    "cvat number": ("cvat", "annotations.xml", replaced('points="', 'points="x,1;'),
                    "has the coordinate 'x'"),
    "cvat point": ("cvat", "annotations.xml", replaced('points="', 'points="7;'),
                   "has the point ['7']"),
    "cvat shape": ("cvat", "annotations.xml", replaced("<polygon ", '<blob label="x"/><polygon '),
                   "is of no known type"),
    "cvat image": ("cvat", "annotations.xml", replaced('name="0000.jpg"', 'name="b/gone.jpg"'),
                   "names the image b/gone.jpg, which is not there"),
    "cvat runs": ("cvat-masks", "annotations.xml", replaced('rle="', 'rle="7, '),
                  "its runs do not add up to its"),
    "cvat negative": ("cvat-masks", "annotations.xml", replaced('rle="', 'rle="-1, 1, '),
                      "its runs do not add up to its"),
    "voc name": ("voc-boxes", "Annotations/0001.xml", replaced("<name>person</name>", ""),
                 "object 1 has no name"),
    "voc box": ("voc-boxes", "Annotations/0001.xml", replaced("bndbox>", "box>"), None),
    "voc number": ("voc-boxes", "Annotations/0001.xml", replaced("<xmin>", "<xmin>a"),
                   "object 1 has the coordinate 'a"),
    "voc nan": ("voc-boxes", "Annotations/0001.xml", replaced("<xmin>", "<xmin>nan</xmin><xmin>"),
                "object 1 has the coordinate 'nan', which is no finite number"),
    "voc order": ("voc-boxes", "Annotations/0001.xml", replaced("<xmin>", "<xmin>9"),
                  "xmax or ymax is less than xmin or ymin"),
    "voc size": ("voc-boxes", "Annotations/0001.xml", replaced("<width>128", "<width>12.5"),
                 "its size is 12.5 pixels"),
    "yolo class": ("yolo", "labels/train/0001.txt", lambda text: f"{text}2 0.5 0.5 0.1 0.1\n",
                   "the class '2' is none of 0..1 (2 names)"),
    "yolo text": ("yolo", "labels/train/0001.txt", lambda text: f"{text}person 0.5 0.5 0.1 0.1\n",
                  "the class 'person' is none of"),
    "yolo pixels": ("yolo", "labels/train/0001.txt", lambda text: f"{text}0 64 48 10 10\n",
                    "has the coordinate 64: they are shares of width and height"),
    "yolo negative": ("yolo", "labels/train/0001.txt", lambda text: f"{text}0 0.5 0.5 -0.1 0.1\n",
                      "has the coordinate -0.1"),
    "yolo number": ("yolo", "labels/train/0001.txt", lambda text: f"{text}0 nan 0.5 0.1 0.1\n",
                    "has the coordinate 'nan', which is no finite number"),
    "yolo count": ("yolo", "labels/train/0001.txt", lambda text: f"{text}0 0.5 0.5 0.1 0.1 0.9\n",
                   "has 6 numbers: a box is class cx cy w h"),
    "yolo orphan": ("yolo", "labels/train/gone.txt", None, "gone.txt has no image"),
    "via points": ("via", "via.json",
                   lambda c: via_region(c)["shape_attributes"].update(all_points_x=[1]),
                   "all_points_x and all_points_y are no lists of one length"),
    "via number": ("via", "via.json",
                   lambda c: via_region(c).update(shape_attributes=dict(name="rect", x="a")),
                   "has the coordinate 'a'"),
    "via type": ("via", "via.json", lambda c: via_region(c)["shape_attributes"].update(name="blob"),
                 "is of no known type: rect, polygon, circle or ellipse"),
    "via checkbox": ("via", "via.json",
                     lambda c: via_region(c)["region_attributes"].update(kind=dict(a=1, b=1)),
                     "its 'kind' names not one class"),
    "via shape": ("via", "via.json", lambda c: via_region(c).update(shape_attributes=[]),
                  "region 1 has no shape_attributes"),
    "via image": ("via", "via.json", lambda c: via_image(c).update(filename="gone.jpg"),
                  "names the image gone.jpg, which is not there"),
    "coco mask": ("coco", "annotations/instances.json",
                  lambda c: c["annotations"][1].update(segmentation=dict(size=[9, 9], counts=[81])),
                  "the mask of annotation 2 of 0000.jpg cannot be read"),
    "coco category": ("coco", "annotations/instances.json",
                      lambda c: c["annotations"][0].update(category_id=99),
                      "have a category_id that none of its categories has"),
    "coco box": ("coco", "annotations/instances.json",
                 lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]),
                 "have a bbox that is not four numbers"),
    "coco size": ("coco", "annotations/instances.json", lambda c: c["images"][0].pop("width"),
                  "has the width None"),
    "coco image": ("coco", "annotations/instances.json",
                   lambda c: c["images"][0].update(file_name="gone.jpg"),
                   "names the image gone.jpg, which is not there"),
}  # fmt: skip


def via_image(content):
    return next(iter(content["_via_img_metadata"].values()))


def via_region(content):
    return via_image(content)["regions"][0]


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_annotations(name, source_of, tmp_path):
    kind, path, change, expected = FAULTS[name]
    if change is None:
        source = source_of(kind)
        (source / path).touch()
    elif name == "voc box":
        source = source_of(kind, path, lambda text: text.replace("bndbox>", "box>"))
        expected = "object 1 has no bndbox"
    else:
        source = source_of(kind, path, change)
    sentences = faults(source, tmp_path / "out")
    assert len(sentences) == 1 or name == "voc box"
    assert path in sentences[0] or kind == "coco"
    assert expected in sentences[0], sentences
    if name.startswith("yolo") and change is not None:
        lines = (source / path).read_text().splitlines()
        assert f"{path}, line {len(lines)}" in sentences[0]


def test_all_faults_of_all_files_are_told_at_once(source_of, tmp_path):
    source = source_of("yolo")
    for name in ("0000", "0001"):
        (source / f"labels/train/{name}.txt").write_text("9 0.5 0.5 0.1 0.1\n0 2 2 2 2\n")
    assert len(faults(source, tmp_path / "out")) == 4


def paint(path, x, y, color):
    image = Image.open(path).convert("RGB")
    for column in range(x, x + 3):
        image.putpixel((column, y), color)
    image.save(path)


def test_a_color_that_the_table_does_not_name(source_of, tmp_path):
    source = source_of("colors")
    paint(source / "masks/0001.png", 7, 5, (1, 2, 3))
    paint(source / "masks/0001.png", 2, 9, (9, 2, 3))
    paint(source / "masks/0001.png", 4, 9, (1, 2, 3))
    (sentence,) = faults(source, tmp_path / "out", "masks", colors=source / "colors.txt")
    assert (
        "masks/0001.png holds the color (1, 2, 3), first at x = 7, y = 5, of 6 pixels" in sentence
    )
    assert "and 1 other unknown colors" in sentence


@pytest.mark.parametrize("table", [True, False])
def test_masks_as_jpeg_are_refused_with_the_reason(table, originals, tmp_path):
    kind = "colors" if table else "masks"
    source = shutil.copytree(originals / kind, tmp_path / kind)
    for path in list((source / "masks").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    options = dict(colors=source / "colors.txt") if table else {}
    sentences = faults(source, tmp_path / "out", "masks", **options)
    assert len(sentences) == 2
    assert all("is a JPEG, whose compression has changed colors" in each for each in sentences)


def test_masks_with_other_values_or_colors(source_of, tmp_path):
    source = source_of("masks")
    Image.fromarray(np.full((96, 128), 7, np.uint8)).save(source / "masks/0000.png")
    paint(source / "masks/0001.png", 1, 1, (9, 9, 10))
    first, second = faults(source, tmp_path / "out", "masks")
    assert "0000.png holds the values 7: masks of one class hold 0 and 1, or 0 and 255" in first
    assert "0001.png has colors: name the class of each with --colors FILE" in second
    (source / "masks/0000.png").rename(source / "masks/0002.png")
    sentences = faults(source, tmp_path / "out", "masks")
    assert any("0002.png has no image" in each for each in sentences)


def test_masks_of_voc(source_of, tmp_path):
    source = source_of("voc-masks")
    path = source / "SegmentationClass/0001.png"
    values = np.array(Image.open(path))
    values[5, 5] = 3
    Image.fromarray(values).save(path)
    (sentence,) = faults(source, tmp_path / "out", "masks")
    assert "0001.png holds the index 3, accepted are 0..2 (3 classes) and 255" in sentence
    values[:] = np.where(values == 255, 255, 1)
    values[:, :64] = 2
    Image.fromarray(values).save(path)
    Image.fromarray(np.ones_like(values)).save(source / "SegmentationObject/0001.png")
    (sentence,) = faults(source, tmp_path / "out", "coco")
    assert "the object 1 has pixels of several classes: person, car" in sentence
    Image.fromarray(np.dstack([values] * 2 + [values + 1])).save(path)
    assert (
        "0001.png has colors, and the list of classes has none"
        in faults(source, tmp_path / "out", "masks")[0]
    )
    (source / "class_names.txt").unlink()
    assert "no list that names the classes: write class_names.txt" in stops(source, tmp_path)


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("road 1 2 300", "line 1: the color (1, 2, 300) is not of 0..255"),
        ("road 1 2 3\n\nroad 4 5 6", "line 3: 'road' is there twice"),
        ("road 1 2 3\ncar #010203", "line 2: 'car' has the color (1, 2, 3) of 'road'"),
        ("road", "'road' has no color; a line is NAME R G B"),
        ("# nothing", "holds no class name"),
        (b"\xff\xfe\xfd", "is no text in UTF-8, at byte 0"),
    ],
)
def test_tables_of_colors(lines, expected, source_of, tmp_path):
    source, table = source_of("colors"), tmp_path / "table.txt"
    table.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    assert expected in stops(source, tmp_path, "masks", colors=table)


def test_classes(source_of, tmp_path):
    source = source_of("coco")
    sentence = stops(source, tmp_path, classes=["Person"])
    assert "no class 'Person'; near to it is person; it has person, car" in sentence
    assert "names 'car' twice" in stops(source, tmp_path, classes=["car", "car"])
    assert "it has person, car" in stops(source, tmp_path, classes=["zebra"])


def test_boxes_cannot_become_label_maps(source_of, tmp_path):
    sentence = stops(source_of("voc-boxes"), tmp_path, "masks", val=0)
    assert "objects have a box and no outline, first in" in sentence
    assert "Annotations/0000.xml" in sentence and "take --to coco" in sentence


def test_masks_of_classes_cannot_become_objects(source_of, tmp_path):
    sentence = stops(source_of("masks"), tmp_path, "coco", val=0)
    assert "not which pixels are one object: take --to masks" in sentence


def test_more_classes_than_8_bits_hold(source_of, tmp_path):
    names = [f"c{i}" for i in range(255)]
    source = source_of(
        "coco", "annotations/instances.json",
        lambda c: c["categories"].extend(dict(id=100 + i, name=n) for i, n in enumerate(names)),
    )  # fmt: skip
    assert "258 classes with the background" in stops(source, tmp_path, "masks", val=0)


def test_the_source_as_a_whole(source_of, tmp_path):
    assert "does not exist" in stops(tmp_path / "gone", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no file" in stops(empty, tmp_path)
    (empty / "package.json").write_text('{"name": "x", "version": 1}')
    assert "holds nothing that is known: labelme's JSON, CVAT's XML" in stops(empty, tmp_path)
    (empty / "a.txt").write_bytes(b"\0\1")
    assert "holds nothing that is known" in stops(empty, tmp_path)
    both = source_of("labelme")
    shutil.copytree(source_of("cvat"), both / "cvat")
    assert "labelme and cvat: say which with --from labelme or --from cvat" in stops(both, tmp_path)
    assert "--from yolo: the source holds labelme and cvat" in stops(
        both, tmp_path, chosen_format="yolo"
    )
    colors = dict(colors=tmp_path / "x")
    assert "--colors is for masks of colors" in stops(both / "cvat", tmp_path, **colors)
    assert "--images" in stops(both / "cvat", tmp_path, images=both / "0000.jpg")
    assert "does not exist" in stops(both / "cvat", tmp_path, images=both / "gone")


def test_splits(source_of, tmp_path):
    source = source_of("labelme")
    assert "--val is a share of the images, such as 0.2, got 2" in stops(source, tmp_path, val=2)
    assert "--val 0.2 of 2 images leaves none for the validation" in stops(source, tmp_path)
    (sentence, _) = faults(source, tmp_path / "out", group_by="cam", val=0)
    assert "--group-by 'cam' finds nothing in 0000.jpg" in sentence
    yolo = tmp_path / "with-splits"
    tools.write_yolo(yolo, tools.draw_scenes(3), num_val=1)
    assert "--val splits images, and the source has splits" in stops(yolo, tmp_path, val=0.1)
    assert "--group-by splits images, and" in stops(yolo, tmp_path, group_by="x")
    text = (yolo / "data.yaml").read_text()
    (yolo / "data.yaml").write_text(text.replace("val: images/val", "val: images/train"))
    sentence = stops(yolo, tmp_path)
    assert "data.yaml: train and val both have" in sentence and "take out val" in sentence
    (yolo / "data.yaml").write_text(text.replace("val: images/val", "val: images/gone"))
    assert "val is images/gone, which is not there" in stops(yolo, tmp_path)
    lists = source_of("voc-boxes") / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0000\n0001\n")
    (lists / "val.txt").write_text("0001 1\n")
    assert "val.txt, line 1: 0001 1 is in the list of train, too" in stops(
        lists.parent.parent, tmp_path
    )


@pytest.mark.parametrize(
    "names, expected",
    [("[]", "names must be a list"), ("{a: 0}", "names must be by whole numbers, got ['a']")],
)
def test_names_of_yolo(names, expected, source_of, tmp_path):
    source = source_of("yolo")
    (source / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    assert expected in stops(source, tmp_path)


def test_attributes_of_via(source_of, tmp_path):
    source = source_of("via")
    content = json.loads((source / "via.json").read_text())

    def change(each):
        for image in content["_via_img_metadata"].values():
            for region in image["regions"]:
                region["region_attributes"] = each(region["region_attributes"])
        (source / "via.json").write_text(json.dumps(content))

    change(lambda attributes: {**attributes, "color": "red"})
    sentence = stops(source, tmp_path)
    assert (
        "all regions have the attributes kind, color; name the classes with --classes" in sentence
    )
    options = dict(classes=["person"], val=0)
    assert not plan_conversion(source, tmp_path / "out", "coco", **options).source.problems
    via_region(content)["region_attributes"] = {"color": ""}
    change(lambda attributes: {k: v for k, v in attributes.items() if k == "kind" or not v})
    assert (
        "no attribute names the class of all regions; a region of 0000.jpg has no 'kind'"
        in stops(source, tmp_path)
    )
    change(lambda attributes: {})
    assert "if all are of one class, name it with --classes NAME" in stops(source, tmp_path)
    plan = plan_conversion(source, tmp_path / "out", "coco", classes=["balloon"], val=0)
    assert {each.name for image in plan.source.images for each in image.objects} == {"balloon"}


def test_images_of_one_name(source_of, tmp_path):
    source = source_of("coco")
    shutil.copytree(source / "images", source / "copies")
    sentences = faults(source, tmp_path / "out")
    assert "names the image 0000.jpg, and there are 2:" in sentences[0]
    options = dict(images=source / "copies", val=0)
    assert not plan_conversion(source, tmp_path / "out", "coco", **options).source.problems


def test_an_image_twice_in_one_file(source_of, tmp_path):
    source = source_of(
        "coco", "annotations/instances.json",
        lambda c: c["images"].append(dict(c["images"][0], id=7)),
    )  # fmt: skip
    (sentence,) = faults(source, tmp_path / "out")
    assert "0000.jpg is there twice, with labels in" in sentence


def test_sizes_that_would_fill_the_memory(source_of, tmp_path):
    huge = replaced('width="128"', 'width="128000000"')
    sentences = faults(source_of("cvat-masks", "annotations.xml", huge), tmp_path / "out")
    assert "states the size of 128000000x96 pixels" in sentences[0]
    change = dict(imageHeight=10**9, imageWidth=10**9)
    source = source_of("labelme-masks", "0001.json", lambda c: c.update(change))
    (sentence,) = faults(source, tmp_path / "out")
    assert "0001.json states the size of 1000000000x1000000000 pixels" in sentence


def test_a_broken_yaml_is_named_with_line_and_column(source_of, tmp_path):
    source = source_of("yolo", "data.yaml", lambda text: text + "names: [a\n")
    assert "data.yaml, line " in (sentence := stops(source, tmp_path)) and "no YAML" in sentence


def test_a_region_of_via_without_attributes(source_of, tmp_path):
    source = source_of("via", "via.json", lambda c: via_image(c)["regions"].append(7))
    assert "a region of 0000.jpg has no region_attributes" in stops(source, tmp_path)


@pytest.mark.parametrize("named", [None, ["crack"], ["background", "crack"]])
def test_masks_of_1_and_of_255_in_one_set(named, source_of, tmp_path):
    source = source_of("masks")
    path = source / "masks/0001.png"
    Image.fromarray(np.array(Image.open(path)) // 255).save(path)
    sentence = stops(source, tmp_path, "masks", classes=named)
    assert "0000.png holds the value 255 and " in sentence and "0001.png the value 1" in sentence
    assert "masks of one class hold 0 and 1, or 0 and 255, all in the same way" in sentence


def test_lists_of_names_by_line(source_of, tmp_path):
    source = source_of("yolo")
    (source / "data.yaml").unlink()
    (source / "classes.txt").write_text("person\n\ncar\n")
    assert "classes.txt, line 2 is blank, and the number of a line" in stops(source, tmp_path)
    (source / "classes.txt").write_text("person\ncar\nperson\n")
    assert "classes.txt has the class name 'person' twice" in stops(source, tmp_path)
    (source / "classes.txt").write_text("person\ncar\n\n \n")
    plan = plan_conversion(source, tmp_path / "out", "coco", val=0)
    assert plan.classes == ["person", "car"] and not plan.source.problems
    (source_of("voc-masks") / "class_names.txt").write_text("_background_\n\nperson\ncar\n")
    assert "class_names.txt, line 2 is blank" in stops(tmp_path / "voc-masks", tmp_path, "masks")


def test_names_of_yolo_twice(source_of, tmp_path):
    source = source_of("yolo")
    (source / "data.yaml").write_text("train: images/train\nnames: [car, car , dog]\n")
    assert "data.yaml has the class name 'car' twice" in stops(source, tmp_path)


def test_a_test_set_of_yolo_that_is_not_there_is_left_out(tmp_path):
    tools.write_yolo(tmp_path / "in", tools.draw_scenes(3), num_val=1)
    path = tmp_path / "in/data.yaml"
    path.write_text(path.read_text() + "test: ../test/images\n")
    plan = plan_conversion(tmp_path / "in", tmp_path / "out", "coco")
    assert not plan.source.problems and len(plan.source.images) == 3
    reason = "test sets that are not there: ../test/images"
    assert plan.source.left_out == {reason: (1, str(path))}
    path.write_text(path.read_text().replace("../test/images", "images/val"))
    assert "val and test both have" in stops(tmp_path / "in", tmp_path)


def test_tables_of_voc_in_which_some_names_have_colors(source_of, tmp_path):
    source = source_of("voc-masks")
    (source / "class_names.txt").write_text("_background_ 0 0 0\nperson\ncar 1 2 3\n")
    assert "'person' has no color" in stops(source, tmp_path, "masks")


def test_folders_of_voc_masks_with_other_names(source_of, tmp_path):
    source = source_of("voc-masks")
    (source / "SegmentationClass").rename(source / "SegmentationClassAug")
    sentence = stops(source, tmp_path, "masks")
    assert "has the folder SegmentationClassAug and no SegmentationClass: rename it" in sentence


def test_a_project_of_via_without_its_images(source_of, tmp_path):
    source = source_of("via", "via.json", lambda c: c.update(_via_img_metadata=[]))
    (sentence,) = faults(source, tmp_path / "out")
    assert "via.json: its _via_img_metadata is no object of JSON" in sentence


def test_lists_of_voc_that_fit_several_images_or_none(source_of, tmp_path):
    source = source_of("voc-boxes")
    for folder in "ab":
        for kind in ("Annotations", "JPEGImages"):
            shutil.copytree(source / kind, tmp_path / "new" / kind / folder)
    lists = tmp_path / "new/ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a/0000\n0001\n")
    sentence = stops(tmp_path / "new", tmp_path)
    assert "train.txt, line 2: 0001 may be " in sentence and "b/0001.jpg" in sentence
    (lists / "train.txt").write_text("7\n8\n")
    assert "no line of the lists is the name of an annotated" in stops(tmp_path / "new", tmp_path)


def test_the_background_alone_is_no_class(source_of, tmp_path):
    for source, to in (("coco", "coco"), ("voc-masks", "masks"), ("voc-masks", "coco")):
        name = "_background_" if source == "voc-masks" else "background"
        folder = tmp_path / source if (tmp_path / source).exists() else source_of(source)
        sentence = stops(folder, tmp_path, to, classes=[name])
        assert "--classes names the background alone; the source has" in sentence
