"""Compare segmentors that are trained with circular and with zeros borders on whole images.

A small GFNet-H with a light head is trained on the demo's synthetic scenes in several variants with
several seeds. Each model is tested in the settings of :mod:`gfnet_dense.benchmark.transfer`.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config

from gfnet_dense import cli
from gfnet_dense.benchmark import transfer
from gfnet_dense.benchmark.sweep import OK, run_sweep
from gfnet_dense.demo import shrink, write_ade20k
from gfnet_dense.engine.runner import build_runner
from gfnet_dense.utils import tables
from gfnet_dense.utils.errors import InputError

CONFIG = Path(__file__).parents[1] / "configs" / "fpn_gfnet-h-ti_ade20k.py"
ARCH = dict(
    dims=(32, 64, 128, 256), depths=(2, 2, 6, 2), drop_path_rate=0.0, layer_scale_init_value=1e-3
)
MAX_ITERS = 600
SEEDS = (0, 1, 2)
SCALES = (1.0, 1.5, 2.0)
WINDOW, STRIDE = 128, 85  # side and stride of the sliding windows in pixels
RESULTS = "transfer.json"  # name of the file with test results, beside the checkpoint
TIME_LIMIT = 1800  # seconds that one test may take
COLORS = {"circular": "tab:blue", "zeros": "tab:orange"}

# mIoU in percent by variant and test setting, arrays of shape (seeds, scales)
Metrics = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Variant:
    """Settings of a training.

    Attributes:
        border: Border of the filters.
        img_size: Side of the images for which filters are stored, in pixels.
        crops: Sides of the training crops in pixels; one of them is chosen at random per image.
        start: Variant of which the backbone's initial weights are taken, with the same seed. None:
            random initial weights.
    """

    border: str
    img_size: int
    crops: tuple[int, ...]
    start: str | None = None


# Variants in the order of training, so that one from which others start comes first
PRETRAINING = "pretraining"
VARIANTS = {
    # 56 is to crops of 128 what ImageNet's 224 is to crops of 512.
    PRETRAINING: Variant("circular", 56, (56,)),
    "circular-native": Variant("circular", 128, (128,)),
    "zeros-native": Variant("zeros", 128, (128,)),
    "circular-small": Variant("circular", 56, (128,)),
    "zeros-small": Variant("zeros", 56, (128,)),
    "circular-crops": Variant("circular", 128, (96, 128, 160)),
    "zeros-crops": Variant("zeros", 128, (96, 128, 160)),
    "tuned-circular": Variant("circular", 128, (128,), PRETRAINING),
    "tuned-zeros": Variant("zeros", 128, (128,), PRETRAINING),
    "tuned-circular-small": Variant("circular", 56, (128,), PRETRAINING),
    "tuned-zeros-small": Variant("zeros", 56, (128,), PRETRAINING),
}
TESTED = [name for name in VARIANTS if name != PRETRAINING]  # those with crops of about 128


def folder(name: str, seed: int) -> Path:
    """Return the folder of a training, with its checkpoint and test results."""
    return Path("work_dirs") / "borders" / name / f"seed{seed}"


def checkpoint(name: str, seed: int) -> Path:
    """Return the path of the last checkpoint of a training."""
    return folder(name, seed) / f"iter_{MAX_ITERS}.pth"


def build_config(name: str, seed: int) -> Config:
    """Return the config of a training: the demo of Semantic FPN with a smaller backbone.

    Args:
        name: One of :data:`VARIANTS`.
        seed: Seed of the training.
    """
    variant = VARIANTS[name]
    cfg = cli.read_config(CONFIG)
    shrink(cfg)
    cfg.work_dir = str(folder(name, seed))
    cfg.randomness = dict(seed=seed)
    _set_model(cfg.model, variant, seed)
    _set_crops(cfg, variant.crops)
    _set_schedule(cfg)
    return cfg


def _set_model(model, variant: Variant, seed: int) -> None:
    model.backbone = dict(
        type="gfnet_dense.GFNet", arch=ARCH, img_size=variant.img_size, border=variant.border
    )
    if variant.start:
        weights = str(checkpoint(variant.start, seed))
        model.backbone.init_cfg = dict(type="Pretrained", checkpoint=weights)
    model.neck.update(in_channels=list(ARCH["dims"]), out_channels=64)
    model.decode_head.in_channels = [64] * 4
    model.test_cfg.update(crop_size=(WINDOW, WINDOW), stride=(STRIDE, STRIDE))


def _set_crops(cfg: Config, crops: tuple[int, ...]) -> None:
    pipeline, preprocessor = cfg.train_dataloader.dataset.pipeline, cfg.model.data_preprocessor
    (i,) = (i for i, transform in enumerate(pipeline) if transform.type == "RandomCrop")
    choices = [dict(pipeline[i], crop_size=(crop, crop)) for crop in crops]
    if len(crops) == 1:
        pipeline[i] = choices[0]
        preprocessor.size = (crops[0], crops[0])
    else:
        pipeline[i] = dict(type="RandomChoice", transforms=[[choice] for choice in choices])
        preprocessor.update(size=None, size_divisor=32)
    if crops == (56,):
        cfg.train_dataloader.batch_size = 16  # about as many pixels per step as with larger crops


def _set_schedule(cfg: Config) -> None:
    cfg.train_cfg.update(max_iters=MAX_ITERS, val_interval=MAX_ITERS)
    warm_up, decay = cfg.param_scheduler
    warm_up.end = decay.begin = MAX_ITERS // 10
    decay.end = MAX_ITERS
    cfg.default_hooks.checkpoint.update(interval=MAX_ITERS, save_best=None)
    cfg.custom_hooks = []


def train(name: str, seed: int) -> None:
    """Train a variant in a process of its own, unless its checkpoint exists.

    Raises:
        InputError: If the training fails. The reason is on the console, and the log in its folder.
    """
    if checkpoint(name, seed).exists():
        return
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(name, seed))
    process.start()
    process.join()
    if process.exitcode:
        raise InputError(
            f"the training in {folder(name, seed)} ended with code {process.exitcode}, see above"
        )


def _train(name: str, seed: int) -> None:
    sys.stdout = open(os.devnull, "w")  # the log file holds the same output
    cli.quiet_third_party()
    with cli.plain_errors():
        write_ade20k()
        build_runner(build_config(name, seed)).train()


def test(name: str, seed: int) -> dict[str, list[float]]:
    """Test a trained variant in every test setting at every scale.

    Results are kept beside the checkpoint. An interrupted test is resumed, and a finished one is
    not repeated.

    Returns:
        mIoU in percent at each of :data:`SCALES`, by test setting, sliding windows first.

    Raises:
        InputError: If a test fails.
    """
    path = folder(name, seed) / RESULTS
    if not _is_tested(path):
        circular = VARIANTS[name].border == "circular"
        cases = transfer.cases(
            config=str(folder(name, seed) / CONFIG.name),  # saved by the training
            checkpoint=str(checkpoint(name, seed)),
            scales=SCALES,
            modes=("trigonometric", "bilinear", "bicubic") if circular else ("trigonometric",),
        )
        run_sweep(cases, path, rounds=1, time_limit=TIME_LIMIT, resume=path.exists())
    results = json.loads(path.read_text())
    for entry in results["cases"]:
        if entry["status"] != OK:
            raise InputError(
                f"{path.parent}, {entry['series']} at {entry['size']}: {entry['status']}; the same "
                f"command tries again, {path.with_suffix('.log')} tells more"
            )
    return {
        _short(setting): [row[scale] for scale in SCALES]
        for setting, row in transfer.read_metrics(results).items()
    }


def _is_tested(path: Path) -> bool:
    if not path.exists():
        return False
    results = json.loads(path.read_text())
    return results["complete"] and all(entry["status"] == OK for entry in results["cases"])


def _short(setting: str) -> str:
    """Return the name of a test setting without the border: a model is tested as it was trained."""
    return ", ".join(setting.split(", ")[:2])


def run() -> Metrics:
    """Run all missing trainings and tests, print the time left, and return all results."""
    jobs = [(name, seed) for seed in SEEDS for name in VARIANTS]
    pending = [job for job in jobs if not _is_done(*job)]
    start = time.time()
    for i, (name, seed) in enumerate(pending):
        left = f", {(time.time() - start) / i * (len(pending) - i) / 60:.0f} min left" if i else ""
        print(f"{i + 1}/{len(pending)} {name}, seed {seed}{left}", flush=True)
        train(name, seed)
        if name in TESTED:
            test(name, seed)
    return read(SEEDS)


def _is_done(name: str, seed: int) -> bool:
    tested = name not in TESTED or _is_tested(folder(name, seed) / RESULTS)
    return tested and checkpoint(name, seed).exists()


def read(seeds: Sequence[int]) -> Metrics:
    """Return the mIoU of all tested variants; arrays have a row for each of ``seeds``."""
    metrics = {}
    for name in TESTED:
        rows = [test(name, seed) for seed in seeds]
        metrics[name] = {setting: np.array([row[setting] for row in rows]) for setting in rows[0]}
    return metrics


def spread(values: np.ndarray) -> np.ndarray:
    """Return the sample standard deviation (n - 1) over seeds, the first axis; 0 for one seed."""
    return values.std(0, ddof=min(1, len(values) - 1))


def _format(values: np.ndarray, sign: str = "") -> list[str]:
    """Return mean and standard deviation over seeds for each scale."""
    if len(values) == 1:
        return [f"{value:{sign}.1f}" for value in values[0]]
    pairs = zip(values.mean(0), spread(values), strict=True)
    return [f"{mean:{sign}.1f} ± {sd:.1f}" for mean, sd in pairs]


def format_table(metrics: Metrics) -> str:
    """Return a Markdown table with a row for each pair of variant and test setting.

    Cells hold the mean and standard deviation over seeds of the mIoU and, in brackets, of its
    difference to sliding windows with the same model.
    """
    rows = [["trained with", "tested", *(f"x {scale:g}" for scale in SCALES)]]
    for name, by_setting in metrics.items():
        title = f"{VARIANTS[name].border}, {_describe(VARIANTS[name])}"
        for setting, values in by_setting.items():
            cells = _format(values)
            if setting != transfer.SLIDE:
                differences = _format(values - by_setting[transfer.SLIDE], "+")
                cells = [f"{cell} ({d})" for cell, d in zip(cells, differences, strict=True)]
            rows.append([title, setting, *cells])
    return tables.format_table(rows, left=(0, 1))


def _describe(variant: Variant) -> str:
    """Return a title for a variant and all others that differ from it only in the border."""
    crops = ", ".join(map(str, variant.crops))
    text = f"filters for {variant.img_size}, crops of {crops}"
    return f"{text}, from circular weights" if variant.start else text


def draw_plot(metrics: Metrics) -> Figure:
    """Draw the mIoU over the scale, with a panel for variants that differ in border alone."""
    panels = {}
    for name in metrics:
        panels.setdefault(_describe(VARIANTS[name]), []).append(name)
    figure = Figure(figsize=(3.3 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            border = VARIANTS[name].border
            for setting, style in ((transfer.SLIDE, "--"), ("whole, trigonometric", "-")):
                values = metrics[name][setting]
                axis.errorbar(
                    SCALES,
                    values.mean(0),
                    spread(values),
                    color=COLORS[border],
                    linestyle=style,
                    marker="o",
                    capsize=3,
                    label=f"{border}, {setting.partition(',')[0]}",
                )
        axis.set(
            title=title.replace(", ", "\n", 1), xlabel="scale of the test image", xticks=SCALES
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mIoU, percent")
    handles = {c.get_label(): c for axis in axes for c in axis.containers}
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False
    )
    return figure
