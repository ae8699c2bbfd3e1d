"""Synthetic scenes as the programs for labeling write them, each in its own format.

Corners of outlines lie on the edges of pixels, where a polygon and a mask hold the same pixels.
"""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import yaml
from PIL import Image
from scipy.ndimage import binary_fill_holes

from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene

THINGS = ["person", "car"]  # classes of the instances in a scene
STUFF = ["background", *(name for name in ADE_INDEX if name != "other")]  # classes of label maps
FACTOR = 8  # by which masks are enlarged before they are traced


@dataclass
class Thing:
    """A labeled object: class name, mask (H, W) bool without holes, outlines (N, 2) x, y."""

    name: str
    mask: np.ndarray
    outlines: list[np.ndarray]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom edge in pixels."""
        points = np.concatenate(self.outlines)
        return (*points.min(0).tolist(), *points.max(0).tolist())


def draw_scenes(number, height=96, width=128):
    """Return scenes with at least one person or car each."""
    scenes = (draw_scene(seed, height, width) for seed in range(10 * number))
    return [scene for scene in scenes if scene.instances][:number]


def things(scene, names=None):
    """Return the objects of a scene, whose holes are filled since polygons have none.

    ``names`` are class names by index, those of ADE_INDEX if None.
    """
    names = names or {index: name for name, index in ADE_INDEX.items()}
    return [
        Thing(names[each.label], mask, trace(mask))
        for each in scene.instances
        for mask in [binary_fill_holes(each.mask)]
    ]


def trace(mask):
    """Return the outlines of the parts of a mask, with corners on the edges of pixels."""
    large = cv2.resize(mask.astype(np.uint8), None, fx=FACTOR, fy=FACTOR, interpolation=0)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for contour in contours:
        points = np.rint((contour[:, 0] + 0.5) / FACTOR).astype(int)
        points = points[(points != np.roll(points, 1, 0)).any(1)]
        straight = np.roll(points, 1, 0) + np.roll(points, -1, 0) == 2 * points
        outlines.append(points[~straight.all(1)])
    return outlines


def index_map(scene):
    """Return the label map of a scene as (H, W) uint8 indices of :data:`STUFF`."""
    index = np.zeros(256, np.uint8)
    for name, value in ADE_INDEX.items():
        index[value] = STUFF.index(name) if name in STUFF else 0
    return index[scene.labels]


def save_image(scene, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(path, quality=95)
    return path


def write_labelme(folder, scenes, shape="polygon", names=None):
    """Write labelme's JSON beside each photo; ``shape`` is polygon, rectangle or mask."""
    for i, scene in enumerate(scenes):
        path = save_image(scene, Path(folder) / f"{i:04d}.jpg")
        shapes = [
            dict(each, label=thing.name, group_id=group, flags={}, description="")
            for group, thing in enumerate(things(scene, names))
            for each in _labelme_shapes(thing, shape)
        ]
        height, width = scene.labels.shape
        content = dict(
            version="5.5.0", flags={}, shapes=shapes, imagePath=path.name, imageData=None,
            imageHeight=height, imageWidth=width,
        )  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(content, indent=2))


def _labelme_shapes(thing, shape):
    if shape == "polygon":
        return [dict(shape_type=shape, points=each.tolist(), mask=None) for each in thing.outlines]
    x1, y1, x2, y2 = thing.box
    if shape == "rectangle":
        return [dict(shape_type=shape, points=[[x2, y1], [x1, y2]], mask=None)]
    mask = base64.b64encode(as_png(thing.mask[y1:y2, x1:x2])).decode()
    return [dict(shape_type=shape, points=[[x1, y1], [x2 - 1, y2 - 1]], mask=mask)]


def as_png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write_voc(folder, scenes):
    """Write boxes as Pascal VOC's XML, as LabelImg and others do."""
    for i, scene in enumerate(scenes):
        path = save_image(scene, Path(folder) / "JPEGImages" / f"{i:04d}.jpg")
        height, width = scene.labels.shape
        root = _xml("annotation", filename=path.name)
        root.append(_xml("size", width=width, height=height, depth=3))
        for thing in things(scene):
            each = _xml("object", name=thing.name, pose="Unspecified", truncated=0, difficult=0)
            corners = zip(("xmin", "ymin", "xmax", "ymax"), thing.box, strict=True)
            each.append(_xml("bndbox", **dict(corners)))
            root.append(each)
        _write_xml(root, Path(folder) / "Annotations" / f"{i:04d}.xml")


def _xml(tag, **values):
    element = ElementTree.Element(tag)
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element


def _write_xml(root, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def write_voc_masks(folder, scenes):
    """Write Pascal VOC's masks of classes and of objects, whose borders of a pixel are void."""
    for i, scene in enumerate(scenes):
        save_image(scene, Path(folder) / "JPEGImages" / f"{i:04d}.jpg")
        classes, objects = (np.zeros(scene.labels.shape, np.uint8) for _ in range(2))
        for number, each in enumerate(scene.instances, start=1):
            classes[each.mask] = 1 + THINGS.index(next(iter(_names(each))))
            objects[each.mask] = number
        border = cv2.dilate(objects, np.ones((3, 3))) != cv2.erode(objects, np.ones((3, 3)))
        for kind, values in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            values[border] = 255
            _save_palette(values, Path(folder) / kind / f"{i:04d}.png")
    (Path(folder) / "class_names.txt").write_text("\n".join(["_background_", *THINGS]) + "\n")


def _names(instance):
    return [name for name, index in ADE_INDEX.items() if index == instance.label]


def _save_palette(values, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values, "P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    image.save(path)


def write_yolo(folder, scenes, polygons=False, num_val=0):
    """Write Ultralytics' layout; the last ``num_val`` scenes are the validation."""
    folder = Path(folder)
    for i, scene in enumerate(scenes):
        split = "train" if i < len(scenes) - num_val else "val"
        save_image(scene, folder / "images" / split / f"{i:04d}.jpg")
        size = np.array(scene.labels.shape[::-1])
        lines = []
        for thing in things(scene):
            if polygons:  # one for each object: parts beside the largest one are left out
                numbers = (max(thing.outlines, key=cv2.contourArea) / size).ravel()
            else:
                low, high = np.reshape(thing.box, (2, 2)) / size
                numbers = [*(low + high) / 2, *high - low]
            index = THINGS.index(thing.name)
            lines.append(" ".join([str(index), *(f"{number:.6f}" for number in numbers)]))
        path = folder / "labels" / split / f"{i:04d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    content = {"path": ".", "train": "images/train", "names": dict(enumerate(THINGS))}
    if num_val:
        content["val"] = "images/val"
    (folder / "data.yaml").write_text(yaml.safe_dump(content))


def write_cvat(folder, scenes, shape="polygon"):
    """Write "CVAT for images 1.1"; ``shape`` is polygon, box or mask."""
    root = ElementTree.Element("annotations")
    root.append(_xml("version"))
    root[0].text = "1.1"
    labels = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels"
    )
    labels.extend(_xml("label", name=name, color="#ff0000", type="any") for name in THINGS)
    for i, scene in enumerate(scenes):
        path = save_image(scene, Path(folder) / "images" / f"{i:04d}.jpg")
        height, width = scene.labels.shape
        attributes = dict(id=str(i), name=path.name, width=str(width), height=str(height))
        image = ElementTree.SubElement(root, "image", attributes)
        for number, thing in enumerate(things(scene), start=1):
            for values in _cvat_shapes(thing, shape):
                common = dict(label=thing.name, source="manual", occluded="0", z_order="0")
                group = dict(group_id=str(number)) if len(thing.outlines) > 1 else {}
                ElementTree.SubElement(image, shape, {**common, **values, **group})
    _write_xml(root, Path(folder) / "annotations.xml")


def _cvat_shapes(thing, shape):
    x1, y1, x2, y2 = thing.box
    if shape == "polygon":
        for outline in thing.outlines:
            yield dict(points=";".join(f"{x:.2f},{y:.2f}" for x, y in outline))
    elif shape == "box":
        yield dict(xtl=f"{x1:.2f}", ytl=f"{y1:.2f}", xbr=f"{x2:.2f}", ybr=f"{y2:.2f}")
    else:
        crop = thing.mask[y1:y2, x1:x2].ravel()  # runs of rows, the first one of pixels outside
        changes = np.flatnonzero(np.diff(np.concatenate([[False], crop]))).tolist()
        runs = np.diff([0, *changes, crop.size]).tolist()
        place = dict(left=x1, top=y1, width=x2 - x1, height=y2 - y1)
        yield dict(
            rle=", ".join(map(str, runs)), **{name: str(value) for name, value in place.items()}
        )


def write_via(folder, scenes, project=True):
    """Write a project of VGG Image Annotator 2, or its exported annotations; one outline each."""
    images = {}
    for i, scene in enumerate(scenes):
        path = save_image(scene, Path(folder) / f"{i:04d}.jpg")
        regions = []
        for thing in things(scene):
            x, y = max(thing.outlines, key=cv2.contourArea).T.tolist()
            shape = dict(name="polygon", all_points_x=x, all_points_y=y)
            regions.append(dict(shape_attributes=shape, region_attributes=dict(kind=thing.name)))
        size = path.stat().st_size
        images[f"{path.name}{size}"] = dict(
            filename=path.name, size=size, regions=regions, file_attributes={}
        )
    content = {"_via_settings": {}, "_via_img_metadata": images} if project else images
    (Path(folder) / "via.json").write_text(json.dumps(content))


def write_coco(folder, scenes):
    """Write a COCO file of polygons, with categories that do not begin at 1."""
    images, annotations = [], []
    for i, scene in enumerate(scenes):
        path = save_image(scene, Path(folder) / "images" / f"{i:04d}.jpg")
        height, width = scene.labels.shape
        images.append(dict(id=i, file_name=path.name, height=height, width=width))
        for thing in things(scene):
            x1, y1, x2, y2 = thing.box
            annotations.append(
                dict(
                    id=len(annotations), image_id=i, category_id=7 + THINGS.index(thing.name),
                    segmentation=[each.ravel().tolist() for each in thing.outlines],
                    bbox=[x1, y1, x2 - x1, y2 - y1], area=int(thing.mask.sum()), iscrowd=0,
                )
            )  # fmt: skip
    categories = [dict(id=7 + i, name=name) for i, name in enumerate(THINGS)]
    content = dict(images=images, annotations=annotations, categories=categories)
    path = Path(folder) / "annotations" / "instances.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_color_masks(folder, scenes, suffix=".png"):
    """Write photos, masks of one color for each class of :data:`STUFF`, and the table of colors."""
    colors = np.random.default_rng(1).integers(0, 256, (len(STUFF), 3), np.uint8)
    for i, scene in enumerate(scenes):
        save_image(scene, Path(folder) / "images" / f"{i:04d}.jpg")
        path = Path(folder) / "masks" / f"{i:04d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors[index_map(scene)]).save(path)
    rows = [f"{name} {r} {g} {b}" for name, (r, g, b) in zip(STUFF, colors, strict=True)]
    (Path(folder) / "colors.txt").write_text("\n".join(rows) + "\n")


def write_binary_masks(folder, scenes, value=255):
    """Write photos, and masks of all instances in two folders."""
    for i, scene in enumerate(scenes):
        save_image(scene, Path(folder) / "images" / f"{i:04d}.jpg")
        mask = np.any([each.mask for each in scene.instances], axis=0)
        path = Path(folder) / "masks" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask * np.uint8(value)).save(path)
