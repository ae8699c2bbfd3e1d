"""A small detection data set of the tests: red discs and green blobs, and a detector for it."""

import io
import json
import logging
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS, init_default_scope
from PIL import Image, ImageDraw

from gfnet_dense.datasets.coco import loading as coco_loading
from gfnet_dense.datasets.coco.loading import checked_coco
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from tests.conftest import ROOT, TINY

HEIGHT, WIDTH = 128, 160
COLORS = {"disc": (220, 30, 30), "blob": (30, 200, 60)}
NUM_IMAGES = 6


def content_of(num_images=NUM_IMAGES, **changes):
    """Return a COCO file of pictures with a disc and a blob each.

    Args:
        changes: Values of all annotations; None removes a key.
    """
    rng = np.random.default_rng(1)
    images, annotations = [], []
    for i in range(num_images):
        images.append(dict(id=i + 1, file_name=f"{i:02d}.png", width=WIDTH, height=HEIGHT))
        for label in range(len(COLORS)):
            w, h = rng.integers(30, 50, 2).tolist()
            x, y = int(rng.integers(1, 29)) + 80 * label, int(rng.integers(1, HEIGHT - h))
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=i + 1, category_id=label + 1, iscrowd=0,
                    bbox=[x, y, w, h], area=w * h, segmentation=[polygon],
                )
            )  # fmt: skip
    for annotation in annotations:
        annotation.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del annotation[key]
    categories = [category(i + 1, name) for i, name in enumerate(COLORS)]
    return dict(images=images, annotations=annotations, categories=categories)


def category(number, name):
    """Return a category of a COCO file."""
    return dict(id=number, name=name)


def write_pictures(folder, content):
    """Draw the pictures of a file: its boxes as rectangles and ellipses on noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    for image in content["images"]:
        pixels = rng.integers(90, 150, (image["height"], image["width"], 3), np.uint8)
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, w, h = annotation["bbox"]
                label = annotation["category_id"] - 1
                shape = draw.rectangle if label else draw.ellipse
                shape((x, y, x + w, y + h), fill=list(COLORS.values())[label])
        picture.save(folder / image["file_name"])


def data_config(root, classes=("disc", "blob"), with_masks=False):
    """Return the part of a config that names the data: train.json and val.json in a folder."""
    load = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=with_masks),
        dict(type="PackDetInputs"),
    ]
    cfg = dict(default_scope="mmdet", model=dict())
    for split in ("train", "val", "test"):
        name = "train" if split == "train" else "val"
        cfg[f"{split}_dataloader"] = dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(
                type="CocoDataset",
                data_root=str(root),
                ann_file=f"{name}.json",
                data_prefix=dict(img="images"),
                metainfo=dict(classes=classes),
                pipeline=load,
                test_mode=split != "train",
            ),
        )
        if split != "train":
            metric = ["bbox", "segm"] if with_masks else ["bbox"]
            cfg[f"{split}_evaluator"] = dict(
                type="CocoMetric", ann_file=str(root / f"{name}.json"), metric=metric
            )
    return ConfigDict(cfg)


def write_config(path, root, base="retinanet_gfnet-h-ti_coco", **data):
    """Write the config of a tiny detector for a folder of data.

    Args:
        path: The config file.
        root: Folder of train.json, val.json and images.
        base: Config of this project.
        data: Arguments of :func:`data_config`.
    """
    cfg = Config.fromfile(ROOT / "configs" / f"{base}.py")
    shrink(cfg)
    cfg.model.backbone.update(arch=dict(TINY), img_size=64)
    stages = cfg.model.backbone.get("out_indices", range(4))
    cfg.model.neck.in_channels = [TINY["dims"][i] for i in stages]
    for key, part in data_config(root, **data).items():
        if key.endswith("_dataloader"):
            dataset = {k: v for k, v in part["dataset"].items() if k not in ("pipeline", "type")}
            cfg[key].dataset.update(dataset)
            cfg[key].update(num_workers=0, persistent_workers=False)
        elif key.endswith("_evaluator"):
            cfg[key].update(part)
    cfg.custom_hooks = [each for each in cfg.custom_hooks if "Sheet" not in each["type"]]
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.update(interval=2)
    cfg.work_dir = "work"
    cfg.dump(path)
    return cfg


def read_split(root, split, classes=("disc", "blob"), with_masks=False, **dataset):
    """Build the dataset and the evaluator of a split under the checks of the runner.

    Args:
        root: Folder of the data.
        dataset: Further settings of the dataset.

    Returns:
        Dataset, evaluator (None for training), and the logged (level, text).
    """
    cfg = data_config(root, classes, with_masks)
    cfg[f"{split}_dataloader"].dataset.update(dataset)
    if classes is None:
        del cfg[f"{split}_dataloader"].dataset["metainfo"]
    messages, evaluator = [], None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            coco_loading, "print_log",
            lambda text, logger, level=logging.INFO: messages.append((level, text)),
        )  # fmt: skip
        init_default_scope("mmdet")
        with checked_coco(cfg, split), redirect_stdout(io.StringIO()):
            dataset = DenseRunner.build_dataloader(cfg[f"{split}_dataloader"]).dataset
            if split != "train":
                evaluator = METRICS.build(cfg[f"{split}_evaluator"])
                evaluator.dataset_meta = dataset.metainfo
    return dataset, evaluator, messages


def shorten(error, root):
    """Return what a table says about an error: its beginning, without the folder."""
    return f"refused: {str(error).partition('; ')[0]}".replace(f"{root}/", "")


def perfect_ap(evaluator, content, key="bbox_mAP"):
    """Return the AP of the boxes and masks of a file as predictions."""
    for image in content["images"]:
        own = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        boxes = torch.tensor([each["bbox"] for each in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = np.zeros((len(own), HEIGHT, WIDTH), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        labels = [each["category_id"] - 1 for each in own]
        pred = dict(
            bboxes=boxes,
            scores=torch.ones(len(own)),
            labels=torch.tensor(labels),
            masks=torch.from_numpy(masks),
        )
        sample = dict(img_id=image["id"], ori_shape=(HEIGHT, WIDTH), pred_instances=pred)
        evaluator.process({}, [sample])
    with redirect_stdout(io.StringIO()):
        return evaluator.compute_metrics(evaluator.results)[key]


def write_data(folder, content=None, **contents):
    """Write train.json and val.json with one content, or with those of ``contents``; and pictures.

    Args:
        content: Content of the files that are not in ``contents``.
        contents: Contents by name of the file without suffix.
    """
    if not (folder / "images").exists():
        write_pictures(folder / "images", content_of())
    for name in ("train", "val"):
        file = contents.get(name, content_of() if content is None else content)
        (folder / f"{name}.json").write_text(json.dumps(file))
    return folder
