"""Data sets of a few small pictures on disk, and configs for them."""

import json

import numpy as np
from mmengine.config import Config
from PIL import Image

WIDTH, HEIGHT = 64, 48
ORIENTATION = 0x0112


def write_picture(path, orientation=1, seed=0, size=(WIDTH, HEIGHT)):
    """Write a JPEG; a turned one has the pixels of the upright one, and a tag."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    exif = Image.Exif()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size).save(path, exif=exif)


def annotation(number, image, category, box, **more):
    x, y, w, h = box
    entry = dict(id=number, image_id=image, category_id=category, bbox=box, area=w * h, iscrowd=0)
    return {**entry, **more}


def clean_content():
    images = [dict(id=i, file_name=f"{i}.jpg", width=WIDTH, height=HEIGHT) for i in (1, 2, 3)]
    boxes = [[4, 5, 20, 10], [30, 20, 34, 28], [2, 2, 10, 10], [40, 0, 24, 12]]
    places = [(1, 1), (1, 2), (2, 1), (3, 2)]
    annotations = [
        annotation(i + 1, image, category, box)
        for i, ((image, category), box) in enumerate(zip(places, boxes, strict=True))
    ]
    return dict(
        images=images,
        categories=[dict(id=1, name="disc"), dict(id=2, name="blob")],
        annotations=annotations,
    )


def coco_config(folder):
    def loader(name):
        return dict(
            dataset=dict(
                type="CocoDataset",
                data_root=str(folder),
                ann_file=f"{name}.json",
                data_prefix=dict(img=name),
                metainfo=dict(classes=("disc", "blob")),
                test_mode=name == "val",
                pipeline=[
                    dict(type="LoadImageFromFile"),
                    dict(type="LoadAnnotations", with_bbox=True),
                ],
            )
        )

    return Config(
        dict(
            default_scope="mmdet",
            model=dict(bbox_head=dict(num_classes=2)),
            train_dataloader=loader("train"),
            val_dataloader=loader("val"),
            test_dataloader=loader("val"),
            val_evaluator=dict(type="CocoMetric", ann_file=f"{folder}/val.json", metric="bbox"),
            test_evaluator=dict(type="CocoMetric", ann_file=f"{folder}/val.json", metric="bbox"),
        )
    )


def write_labels(path, kind="L", values=(0, 1, 2), size=(WIDTH, HEIGHT), seed=1):
    labels = np.random.default_rng(seed).choice(values, size[::-1]).astype(np.uint8)
    image = Image.fromarray(labels)
    if kind == "I;16":
        image = Image.fromarray(labels.astype(np.uint16))
    elif kind != "L":
        image = image.convert(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def label_config(folder):
    def loader(split):
        return dict(
            dataset=dict(
                type="BaseSegDataset",
                data_root=str(folder),
                data_prefix=dict(img_path=f"images/{split}", seg_map_path=f"labels/{split}"),
                metainfo=dict(classes=["background", "road", "car"]),
                pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
            )
        )

    return Config(
        dict(
            default_scope="mmseg",
            model=dict(decode_head=dict(num_classes=3)),
            train_dataloader=loader("train"),
            val_dataloader=loader("val"),
            val_evaluator=dict(type="IoUMetric"),
        )
    )


def write_coco(folder):
    """Write three pictures and a COCO file for training and for validation."""
    for split, seed in (("train", 0), ("val", 10)):
        for i in (1, 2, 3):
            write_picture(folder / split / f"{i}.jpg", seed=seed + i)
        (folder / f"{split}.json").write_text(json.dumps(clean_content()))


def write_maps(folder):
    """Write two images with label maps for training and for validation."""
    for split in ("train", "val"):
        for i in (1, 2):
            write_picture(folder / f"images/{split}/{i}.jpg", seed=i + 10 * (split == "val"))
            write_labels(folder / f"labels/{split}/{i}.png", seed=i)
