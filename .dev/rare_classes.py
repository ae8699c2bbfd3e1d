#!/usr/bin/env python
"""Train with each means of --balance on scenes with two rare classes; write docs/own_data.md:

    python .dev/rare_classes.py

Semantic FPN + GFNet-H-Ti from scratch, as in the demo, with several seeds. This takes an hour on
two CPU cores. Finished runs in work_dirs/rare_classes are not repeated.
"""

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gfnet_dense import cli
from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner import build_runner
from gfnet_dense.engine.runner.balancing import balance
from gfnet_dense.utils.tables import format_table
from pages import insert_block

HOME = Path(__file__).parents[1]
WORK_DIR = Path("work_dirs") / "rare_classes"
COMMON = [name for name in ADE_INDEX if name != "other"]
RARE = ["lamp", "balloon"]  # thin posts, and balloons that are far away
CLASSES = [*COMMON, *RARE]
NUM_IMAGES = {"train": 96, "val": 64}
SEEDS = (0, 1, 2)
MEANS = ([], ["weights"], ["lovasz"], ["sampler"], ["weights", "lovasz"])


def write_scenes(root: Path) -> None:
    """Write scenes in the layout of docs/own_data.md; all that has no class is not labeled."""
    index = {"other": 255, **{name: i for i, name in enumerate(CLASSES)}}
    number = 0
    for split, count in NUM_IMAGES.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            scene = draw_scene(number + i, index=index)
            Image.fromarray(scene.image).save(root / f"images/{split}/{i:04}.jpg", quality=95)
            Image.fromarray(scene.labels).save(root / f"labels/{split}/{i:04}.png")
        number += count


def folder(means: list[str], seed: int) -> Path:
    """Return the folder of a training."""
    return WORK_DIR / ("-".join(means) or "none") / f"seed{seed}"


def train(means: list[str], seed: int) -> None:
    """Train, and write the IoU of each class at the end to ``iou.json``."""
    torch.set_num_threads(1)  # two trainings at a time
    sys.stdout = open(os.devnull, "w")  # the log file holds the same output
    cli.quiet_third_party()
    cfg = cli.read_config(HOME / "configs" / "fpn_gfnet-h-ti_own-data.py")
    shrink(cfg)
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        folder_of = "train" if split == "train" else "val"
        loader.dataset = dict(
            type="BaseSegDataset",
            data_root=str(WORK_DIR / "data"),
            metainfo=dict(classes=CLASSES),
            data_prefix=dict(img_path=f"images/{folder_of}", seg_map_path=f"labels/{folder_of}"),
            pipeline=loader.dataset.pipeline,
        )
    cfg.model.decode_head.num_classes = len(CLASSES)
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(folder(means, seed))
    cfg.train_cfg.val_interval = cfg.train_cfg.max_iters
    cfg.default_hooks.checkpoint.update(interval=cfg.train_cfg.max_iters, save_best=None)
    cfg.custom_hooks = []
    if means:
        balance(cfg, means)
    runner = build_runner(cfg)
    loop = runner.val_loop  # built here
    (metric,) = loop.evaluator.metrics
    compute, areas = metric.compute_metrics, []

    def keep(results: list) -> dict:
        areas[:] = np.sum([np.stack(each) for each in results], axis=0).tolist()
        return compute(results)

    metric.compute_metrics = keep
    runner.train()
    _result(means, seed).write_text(json.dumps(areas))


def _result(means: list[str], seed: int) -> Path:
    """Return the file of intersection, union, predicted and true pixels of each class."""
    return folder(means, seed) / "areas.json"


def scores(means: list[str]) -> dict[str, np.ndarray]:
    """Return figures in percent over all seeds: arrays (seeds,) by name of a column."""
    rows: dict[str, list[float]] = {}
    for seed in SEEDS:
        intersection, union, predicted, true = np.array(
            json.loads(_result(means, seed).read_text())
        )
        iou = 100 * intersection / union
        rows.setdefault("mIoU", []).append(iou.mean())
        rows.setdefault("mIoU of the common", []).append(iou[: len(COMMON)].mean())
        for name in RARE:
            i = CLASSES.index(name)
            rows.setdefault(f"{name}: IoU", []).append(iou[i])
            rows.setdefault(f"{name}: recall", []).append(100 * intersection[i] / true[i])
            rows.setdefault(f"{name}: precision", []).append(
                100 * intersection[i] / max(predicted[i], 1)
            )
    return {name: np.array(values) for name, values in rows.items()}


def table() -> str:
    """Return the Markdown table of means and ranges over the seeds."""
    found = [scores(means) for means in MEANS]
    rows = [["`--balance`", *found[0]]]
    for means, figures in zip(MEANS, found, strict=True):
        cells = [f"{each.mean():.1f} ± {np.ptp(each) / 2:.1f}" for each in figures.values()]
        rows.append([" ".join(means) or "(without)", *cells])
    return format_table(rows)


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    cli.limit_onednn_cache()
    if not (WORK_DIR / "data").exists():
        write_scenes(WORK_DIR / "data")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, max_tasks_per_child=1) as pool:
        runs = [(means, seed) for seed in SEEDS for means in MEANS]
        missing = [run for run in runs if not _result(*run).exists()]
        for _ in pool.map(train, *zip(*missing, strict=True)) if missing else ():
            print("a run is done", flush=True)
    page = HOME / "docs" / "own_data.md"
    page.write_text(insert_block(page.read_text(), "rare classes", table()))
    print(table())


if __name__ == "__main__":
    main()
