"""Compare borders of the filters in training and in tests on whole images.

A small GFNet-H with a light head is trained on synthetic scenes in several variants with several
seeds. Each model is tested in the settings of :mod:`gfnet_dense.benchmark.transfer`. Sky and ground
are at opposite sides of the scenes of one kind; opposite sides of the other kind look alike.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config

from gfnet_dense import cli
from gfnet_dense.benchmark import transfer
from gfnet_dense.datasets.synthetic.scenes import Scene, draw_scene
from gfnet_dense.datasets.synthetic.writers import ade20k_folder
from gfnet_dense.demo import shrink, write_ade20k
from gfnet_dense.demo.scaling import change_values
from gfnet_dense.engine.runner import build_runner
from gfnet_dense.utils import tables
from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError

CONFIG = Path(__file__).parents[1] / "configs" / "fpn_gfnet-h-ti_ade20k.py"
ARCH = dict(
    dims=(32, 64, 128, 256), depths=(2, 2, 6, 2), drop_path_rate=0.0, layer_scale_init_value=1e-3
)
MAX_ITERS = 400
BATCH_SIZE = 8
SEEDS = (0, 1, 2)
SCALES = (0.5, 1.0, 1.5)  # of the test images; at 0.5 they are as high as the crop
SCENE = (192, 256)  # height and width of a scene in pixels
CROP = 96  # side of the training crops and of the sliding windows in pixels
STRIDE = 64  # of the sliding windows
SMALL = 42  # is to crops of 96 what ImageNet's 224 is to crops of 512
WORK_DIR = Path("work_dirs") / "borders"

# mIoU in percent by variant and test setting, arrays of shape (seeds, scales)
Metrics = dict[str, dict[str, np.ndarray]]


def mirrored_scene(seed: int) -> Scene:
    """Return a scene of half the height above its mirror image, as on a calm lake.

    Its upper and lower side look alike.
    """
    scene = draw_scene(seed, SCENE[0] // 2, SCENE[1])
    image, labels = (np.concatenate([a, a[::-1]]) for a in (scene.image, scene.labels))
    return Scene(image, labels, instances=[])


def street_scene(seed: int) -> Scene:
    """Return a scene with the sky at its upper side and the ground at its lower side."""
    return draw_scene(seed, *SCENE)


SCENES: dict[str, Callable[[int], Scene]] = {"street": street_scene, "mirrored": mirrored_scene}


@dataclass(frozen=True)
class Variant:
    """Settings of a training.

    Attributes:
        scenes: Kind of the scenes, a key of :data:`SCENES`.
        border: Border of the filters in training.
        img_size: Side of the images for which filters are stored, in pixels.
    """

    scenes: str
    border: str
    img_size: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.scenes}-{self.border}-{self.img_size}"


TRAININGS = (("circular", SMALL), ("zeros", SMALL), ("circular", CROP))  # border and img_size
VARIANTS = [Variant(scenes, *training) for training in TRAININGS for scenes in SCENES]


def folder(variant: Variant, seed: int) -> Path:
    """Return the folder of a training, with its checkpoint and test results."""
    return WORK_DIR / variant.name / f"seed{seed}"


def checkpoint(variant: Variant, seed: int) -> Path:
    """Return the path of the last checkpoint of a training."""
    return folder(variant, seed) / f"iter_{MAX_ITERS}.pth"


def build_config(variant: Variant, seed: int) -> Config:
    """Return the config of a training: the demo of Semantic FPN with a smaller backbone."""
    cfg = cli.read_config(CONFIG)
    shrink(cfg)
    cfg.work_dir = str(folder(variant, seed))
    cfg.randomness = dict(seed=seed)
    _set_model(cfg.model, variant)
    _set_data(cfg, variant)
    _set_schedule(cfg)
    return cfg


def _set_model(model, variant: Variant) -> None:
    model.backbone = dict(
        type="gfnet_dense.GFNet", arch=ARCH, img_size=variant.img_size, border=variant.border
    )
    model.neck.update(in_channels=list(ARCH["dims"]), out_channels=64)
    model.decode_head.in_channels = [64] * 4
    model.test_cfg.update(crop_size=(CROP, CROP), stride=(STRIDE, STRIDE))
    model.data_preprocessor.size = (CROP, CROP)


def _set_data(cfg: Config, variant: Variant) -> None:
    """Read the scenes of the variant at their own size, and crop them."""
    root = str(ade20k_folder(WORK_DIR / "data" / variant.scenes))
    changes = {"scale": lambda _: (4 * SCENE[0], SCENE[0]), "crop_size": lambda _: (CROP, CROP)}
    for split in ("train", "val", "test"):
        for dataset in find_datasets(cfg[f"{split}_dataloader"].dataset):
            dataset.data_root = root
            change_values(dataset.pipeline, changes)
    cfg.train_dataloader.batch_size = BATCH_SIZE


def _set_schedule(cfg: Config) -> None:
    cfg.train_cfg.update(max_iters=MAX_ITERS, val_interval=MAX_ITERS)
    warm_up, decay = cfg.param_scheduler
    warm_up.end = decay.begin = MAX_ITERS // 10
    decay.end = MAX_ITERS
    cfg.default_hooks.checkpoint.update(interval=MAX_ITERS, save_best=None)
    cfg.custom_hooks = []


def train(variant: Variant, seed: int) -> None:
    """Train a variant in a process of its own, unless its checkpoint exists.

    Raises:
        InputError: If the training fails. The reason is on the console, and the log in its folder.
    """
    if not checkpoint(variant, seed).exists():
        _run_in_process(_train, variant, seed)


def _run_in_process(function: Callable[[Variant, int], None], variant: Variant, seed: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=function, args=(variant, seed))
    process.start()
    process.join()
    if process.exitcode:
        raise InputError(
            f"{folder(variant, seed)}: the process ended with code {process.exitcode}, see above"
        )


def _train(variant: Variant, seed: int) -> None:
    sys.stdout = open(os.devnull, "w")  # the log file holds the same output
    cli.quiet_third_party()
    with cli.plain_errors():
        write_ade20k(WORK_DIR / "data" / variant.scenes, draw=SCENES[variant.scenes])
        build_runner(build_config(variant, seed)).train()


def test(variant: Variant, seed: int) -> None:
    """Test a trained variant in every test setting at every scale, unless there are results.

    Raises:
        InputError: If a test fails. The reason is on the console.
    """
    if not _results(variant, seed).exists():
        _run_in_process(_test, variant, seed)


def _results(variant: Variant, seed: int) -> Path:
    """Return the path of the test results: mIoU in percent at SCALES, by test setting."""
    return folder(variant, seed) / "mIoU.json"


def _test(variant: Variant, seed: int) -> None:
    sys.stdout = open(os.devnull, "w")
    circular = variant.border == "circular"
    with cli.plain_errors():
        cases = transfer.cases(
            config=str(folder(variant, seed) / CONFIG.name),  # saved by the training
            checkpoint=str(checkpoint(variant, seed)),
            scales=SCALES,
            modes=("trigonometric", "bicubic") if circular else ("trigonometric",),
            borders=("circular", "zeros", "reflect") if circular else ("zeros",),
        )
        metrics: dict[str, list[float]] = {}
        for case in cases:
            setting = case.series.removesuffix(transfer.AS_TRAINED)
            metrics.setdefault(setting, []).append(case.run(case.size, **case.options)["mIoU"])
        with atomic_write(_results(variant, seed)) as part:
            part.write_text(json.dumps(metrics))


def run() -> Metrics:
    """Run all missing trainings and tests, print the time left, and return all results."""
    jobs = [(variant, seed) for seed in SEEDS for variant in VARIANTS]
    pending = [job for job in jobs if not _is_done(*job)]
    start = time.time()
    for i, (variant, seed) in enumerate(pending):
        left = f", {(time.time() - start) / i * (len(pending) - i) / 60:.0f} min left" if i else ""
        print(f"{i + 1}/{len(pending)} {variant.name}, seed {seed}{left}", flush=True)
        train(variant, seed)
        test(variant, seed)
    return read(SEEDS)


def _is_done(variant: Variant, seed: int) -> bool:
    return checkpoint(variant, seed).exists() and _results(variant, seed).exists()


def read(seeds: Sequence[int]) -> Metrics:
    """Return the mIoU of all variants by their names; arrays have a row for each of ``seeds``."""
    metrics = {}
    for variant in VARIANTS:
        rows = [json.loads(_results(variant, seed).read_text()) for seed in seeds]
        metrics[variant.name] = {
            setting: np.array([row[setting] for row in rows]) for setting in rows[0]
        }
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
    """Return a Markdown table with a row for each pair of training and test setting.

    Cells hold the mean and standard deviation over seeds of the mIoU and, in brackets, of its
    difference to sliding windows with the same model.
    """
    columns = [f"{scenes}, x {scale:g}" for scenes in SCENES for scale in SCALES]
    rows = [["trained with", "tested", *columns]]
    for training in TRAININGS:
        by_scenes = [metrics[Variant(scenes, *training).name] for scenes in SCENES]
        for setting in by_scenes[0]:
            row = [cell for each in by_scenes for cell in cells(each, setting)]
            rows.append([_title(*training), setting, *row])
    return tables.format_table(rows, left=(0, 1))


def cells(by_setting: dict[str, np.ndarray], setting: str) -> list[str]:
    """Return the cells of one model and setting, one for each scale; see :func:`format_table`."""
    values = by_setting[setting]
    plain = _format(values)
    if setting == transfer.SLIDE:
        return plain
    differences = _format(values - by_setting[transfer.SLIDE], "+")
    return [f"{cell} ({d})" for cell, d in zip(plain, differences, strict=True)]


def _title(border: str, img_size: int) -> str:
    return f"{border}, filters for {img_size}"


def draw_plot(metrics: Metrics) -> Figure:
    """Draw the loss of whole images to sliding windows, with a panel for each kind of scenes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(SCENES), sharey=True, squeeze=False)[0]
    for axis, scenes in zip(axes, SCENES, strict=True):
        bars, labels = 0, []
        for training in TRAININGS:
            by_setting = metrics[Variant(scenes, *training).name]
            for setting, values in by_setting.items():
                if not setting.startswith("whole, trigonometric"):
                    continue
                border = setting.rpartition(", ")[2]
                difference = (values - by_setting[transfer.SLIDE])[:, SCALES.index(1)]
                axis.bar(bars, difference.mean(), color=COLORS[border])
                axis.errorbar(bars, difference.mean(), spread(difference), color="black", capsize=3)
                labels.append(f"{training[0]}, {training[1]}\ntest: {border}")
                bars += 1
        axis.set_xticks(range(bars), labels, rotation=60, ha="right", fontsize="x-small")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{scenes} scenes")
        axis.grid(alpha=0.3, axis="y")
    axes[0].set_ylabel("mIoU, whole - sliding windows")
    return figure


COLORS = {"circular": "tab:blue", "zeros": "tab:orange", "reflect": "tab:green"}
