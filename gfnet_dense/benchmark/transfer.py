"""Evaluate a trained segmentor on images that are larger than its training crop.

A test setting is either sliding windows of the crop size, so that filters see maps of the size on
which they were trained, or whole images with a mode of resizing filters to them. Each has a border
of the filters, which need not be that of the training.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config

from gfnet_dense.demo import shrink, write_data
from gfnet_dense.demo.scaling import scale_size
from gfnet_dense.engine.runner import build_runner
from gfnet_dense.engine.runner.preparation import prepare_testing
from gfnet_dense.models.layers.base_filter import BORDERS
from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES, check_resize_mode
from gfnet_dense.utils import tables
from gfnet_dense.utils.config import find_datasets, read_config
from gfnet_dense.utils.config_options import merge_options
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.third_party import quiet_third_party

from .sweep import Case

# Name of the setting with sliding windows and the border of the training; the others are compared
# with it. The names of sliding windows with other borders begin so, too.
SLIDE = "slide"
AS_TRAINED = " (as trained)"  # ends the name of whole images with the mode and border of training
# Metrics of mmsegmentation's evaluator; the first that was evaluated is reported
MAIN_METRICS = ("mIoU", "mDice", "mFscore")


def cases(
    config: str,
    checkpoint: str,
    scales: Sequence[float],
    modes: Sequence[str] = FILTER_RESIZE_MODES,
    borders: Sequence[str] | None = None,
    demo: bool = False,
    cfg_options: dict[str, Any] | None = None,
) -> list[Case]:
    """Return a case for every test setting, sliding windows first, and every scale.

    Args:
        config: Path of a segmentor's config. Its ``model.test_cfg`` has the ``crop_size`` and the
            ``stride`` of the sliding windows.
        checkpoint: Checkpoint of the whole segmentor.
        scales: Factors by which the config's test size is multiplied.
        modes: Modes in which filters are resized to the whole image, see
            :func:`gfnet_dense.models.utils.filter_resize.resize_filter`.
        borders: Borders of the filters in the test (``test_border`` of the backbone), see
            :class:`gfnet_dense.models.layers.base_filter.BaseFilter`. None: those of the
            config, and zeros. Modes that a border does not allow are left out, see
            :func:`filter_settings`.
        demo: Evaluate the config's demo, on synthetic scenes.
        cfg_options: Overrides of the config, by dotted key.

    Raises:
        InputError: If config, checkpoint or data are unusable, or for a bad scale, mode or border.
    """
    cfg = _test_config(config, checkpoint, demo, cfg_options, work_dir=None)
    for scale in scales:
        if not 0 < scale < float("inf"):
            raise InputError(f"a scale is a factor of the test size, above 0, got {scale:g}")
    scale_test_images(cfg, 1)  # raises its error now instead of in every run
    backbone = cfg.model.backbone
    own_mode = backbone.get("filter_resize", "trigonometric")
    own_border = backbone.get("border", "circular")
    if borders is None:
        own_test_border = backbone.get("test_border") or own_border
        zeros = ("zeros",) if "trigonometric" in modes else ()
        borders = (own_border, own_test_border, *zeros)
    borders = list(dict.fromkeys(borders))
    # In a test the border of the training has no effect; it is set to one that the mode allows.
    options = dict(config=config, checkpoint=checkpoint, demo=demo, cfg_options=cfg_options)
    settings = {SLIDE: dict(options, test_mode="slide", backbone=dict(test_border=own_border))}
    for border in borders:
        if border != own_border and is_allowed(own_mode, border):
            settings[f"{SLIDE}, {border}"] = dict(
                options, test_mode="slide", backbone=dict(test_border=border)
            )
    for mode, border in filter_settings(modes, borders):
        name = f"whole, {mode}, {border}" + AS_TRAINED * ((mode, border) == (own_mode, own_border))
        settings[name] = dict(
            options,
            test_mode="whole",
            backbone=dict(filter_resize=mode, border=border, test_border=border),
        )
    return [
        Case(name, scale, run, setting)
        for name, setting in settings.items()
        for scale in dict.fromkeys(scales)
    ]


def is_allowed(mode: str, border: str) -> bool:
    """Tell whether a resizing mode goes with a border: every border goes with trigonometric."""
    return border == "circular" or mode == "trigonometric"


def filter_settings(modes: Sequence[str], borders: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of resizing mode and border that a filter can have.

    Borders other than circular exist with trigonometric resizing only.

    Raises:
        InputError: For an unknown mode or border, or if no pair is left.
    """
    for mode in modes:
        check_resize_mode(mode)
    for border in borders:
        if border not in BORDERS:
            raise InputError(f"border is one of {', '.join(BORDERS)}, got {border!r}")
    pairs = [(mode, border) for border in borders for mode in modes if is_allowed(mode, border)]
    if not pairs:
        raise InputError(
            f"the border {borders[0]} goes with the mode trigonometric alone, got {modes[0]}"
        )
    return pairs


def run(
    size: float,
    config: str,
    checkpoint: str,
    demo: bool,
    cfg_options: dict[str, Any] | None,
    test_mode: str,
    backbone: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate a checkpoint in one test setting at one scale; nothing is left on disk.

    Args:
        size: Factor by which the config's test size is multiplied.
        config: See :func:`cases`.
        checkpoint: Checkpoint of the whole segmentor.
        demo: See :func:`cases`.
        cfg_options: See :func:`cases`.
        test_mode: ``slide`` or ``whole``, mmsegmentation's ``model.test_cfg.mode``.
        backbone: Settings of the backbone that replace those of the config.

    Returns:
        All metrics of the config's evaluator in percent; ``metric``, the name of the main metric;
        ``seconds``, the time of the evaluation.

    Raises:
        InputError: If the evaluator compares no label maps, so that there is no metric.
    """
    quiet_third_party()
    with tempfile.TemporaryDirectory() as work_dir:
        cfg = _test_config(config, checkpoint, demo, cfg_options, work_dir)
        scale_test_images(cfg, size)
        cfg.model.test_cfg.mode = test_mode
        cfg.model.backbone.update(backbone)
        cfg.log_level, cfg.visualizer = "ERROR", dict(type="Visualizer", vis_backends=[])
        # Persistent workers would outlive this process for seconds.
        cfg.test_dataloader.persistent_workers = False
        runner = build_runner(cfg)
        start = time.perf_counter()
        metrics = {name: float(value) for name, value in runner.test().items()}
        seconds = time.perf_counter() - start
    if not metrics:  # format_only
        raise InputError(f"the test_evaluator of {config} compares with no label maps")
    main = next((name for name in MAIN_METRICS if name in metrics), min(metrics))
    return dict(metrics, metric=main, seconds=seconds)


def _test_config(
    config: str,
    checkpoint: str,
    demo: bool,
    cfg_options: dict[str, Any] | None,
    work_dir: str | None,
) -> Config:
    """Return the config of an evaluation; raise InputError if checkpoint or data are unusable."""
    cfg = read_config(config)
    if demo:
        shrink(cfg)
    merge_options(cfg, cfg_options)
    if demo:
        write_data(cfg)
    cfg.work_dir = work_dir
    if cfg.default_scope != "mmseg":
        raise InputError(f"transfer is for segmentors, {config} is of {cfg.default_scope}")
    missing = {"crop_size", "stride"} - set(cfg.model.get("test_cfg") or {})
    if missing:
        raise InputError(
            f"sliding windows need model.test_cfg.{min(missing)}, which {config} has not: "
            "--cfg-options model.test_cfg.crop_size=512,512 model.test_cfg.stride=341,341 sets them"
        )
    prepare_testing(cfg, checkpoint)
    return cfg


def scale_test_images(cfg: Config, factor: float) -> None:
    """Multiply the size to which the test pipelines resize images by a factor, in place.

    Raises:
        InputError: If a test pipeline has no transform with a ``scale``.
    """
    for dataset in find_datasets(cfg.test_dataloader.dataset):
        resizes = [transform for transform in dataset.pipeline if transform.get("scale")]
        if not resizes:
            raise InputError(
                "the test pipeline does not tell the size of its images: it needs "
                "dict(type='Resize', scale=(2048, 512), keep_ratio=True)"
            )
        for transform in resizes:
            transform.scale = scale_size(transform.scale, factor)


def read_metrics(results: Mapping[str, Any]) -> dict[str, dict[float, float | str]]:
    """Return the main metric in percent, or the status if there is none, by test setting and scale.

    Args:
        results: Results of :func:`.sweep.run_sweep` for the cases of :func:`cases`.
    """
    table: dict[str, dict[float, float | str]] = {}
    for entry in results["cases"]:
        row = table.setdefault(entry["series"], {})
        record = entry["records"][0] if entry["records"] else None
        row[entry["size"]] = record[record["metric"]] if record else entry["status"].split(":")[0]
    return table


def format_table(results: Mapping[str, Any]) -> str:
    """Return a Markdown table of the main metric, with a row for each test setting.

    Its columns are the scales. Brackets hold the difference to sliding windows at the same scale.

    Args:
        results: See :func:`read_metrics`.
    """
    table = read_metrics(results)
    # A resumed sweep may hold scales that only some settings have.
    scales = sorted({scale for row in table.values() for scale in row})
    rows = [[_metric_name(results), *(f"x {scale:g}" for scale in scales)]]
    for setting, row in table.items():
        reference = {} if setting == SLIDE else table.get(SLIDE, {})
        cells = [_cell(row.get(scale, ""), reference.get(scale)) for scale in scales]
        rows.append([setting, *cells])
    return tables.format_table(rows)


def _cell(value: float | str, reference: float | str | None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(reference, float):
        return f"{value:.2f} ({value - reference:+.2f})"
    return f"{value:.2f}"


def _metric_name(results: Mapping[str, Any]) -> str:
    names = (entry["records"][0]["metric"] for entry in results["cases"] if entry["records"])
    return next(names, "metric")


def draw_plot(results: Mapping[str, Any]) -> Figure:
    """Draw the main metric over the scale, with a line for each test setting.

    Args:
        results: See :func:`read_metrics`.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for setting, row in read_metrics(results).items():
        points = sorted((x, y) for x, y in row.items() if not isinstance(y, str))
        style: dict[str, Any] = dict(color="black", linestyle="--") if setting == SLIDE else {}
        x, y = [x for x, _ in points], [y for _, y in points]
        axis.plot(x, y, marker="o", label=setting, **style)
    axis.set(
        xlabel="test size, relative to the config's", ylabel=f"{_metric_name(results)}, percent"
    )
    axis.legend(frameon=False, fontsize="small")
    axis.grid(alpha=0.3)
    return figure
