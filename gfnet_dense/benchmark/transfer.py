"""What becomes of a trained segmentor's metric on images larger than its training crop.

Either windows of the crop slide over the image, so that every filter meets maps of the size that it
was trained on, or the filters are resized to the whole image, in some mode and with some border.
"""

import tempfile
import time
from collections.abc import Sequence

from matplotlib.figure import Figure
from mmengine.config import Config

from gfnet_dense.demo import shrink, write_data
from gfnet_dense.demo.scaling import scale_size
from gfnet_dense.engine.runner import build_runner
from gfnet_dense.engine.runner.preparation import prepare_testing
from gfnet_dense.models.layers.global_filter import BORDERS
from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES, check_resize_mode
from gfnet_dense.utils import tables
from gfnet_dense.utils.config import find_datasets, merge_options, read_config
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.third_party import quiet_third_party

from .sweep import Case

SLIDE = "slide"
AS_TRAINED = " (as trained)"
MAIN_METRICS = ("mIoU", "mDice", "mFscore")  # of mmsegmentation's evaluator; the first there is


def cases(
    config: str,
    checkpoint: str,
    scales: Sequence[float],
    modes: Sequence[str] = FILTER_RESIZE_MODES,
    borders: Sequence[str] | None = None,
    demo: bool = False,
    cfg_options: dict | None = None,
) -> list[Case]:
    """Return an evaluation for every way to test, sliding windows first, and every scale.

    Args:
        config: File of a segmentor's config; ``crop_size`` and ``stride`` of its
            ``model.test_cfg`` are those of the sliding windows.
        checkpoint: What :func:`run` evaluates.
        scales: Factors of the config's own test size.
        modes: Ways to resize filters to the whole image, see :func:`..models.resample`.
        borders: What filters see beyond the image, the config's own border if None. Those other
            than circular go with trigonometric resizing alone: other pairs are left out.
        demo: Evaluate the config's demo, on drawn scenes.
        cfg_options: Overrides of the config, by dotted key.

    Raises:
        InputError: If config, checkpoint and data cannot be tested in these ways.
    """
    cfg = _test_config(config, checkpoint, demo, cfg_options, work_dir=None)
    for scale in scales:
        if not 0 < scale < float("inf"):
            raise InputError(f"a scale is a factor of the test size, above 0, got {scale:g}")
    scale_test_images(cfg, 1)  # to say it now if it cannot be done
    backbone = cfg.model.backbone
    own_border = backbone.get("border", "circular")
    trained = backbone.get("filter_resize", "trigonometric"), own_border
    options = dict(config=config, checkpoint=checkpoint, demo=demo, cfg_options=cfg_options)
    ways = {SLIDE: dict(options, test_mode="slide", backbone={})}
    for mode, border in filter_settings(modes, borders or [own_border]):
        name = f"whole, {mode}, {border}" + AS_TRAINED * ((mode, border) == trained)
        ways[name] = dict(
            options, test_mode="whole", backbone=dict(filter_resize=mode, border=border)
        )
    return [
        Case(name, scale, run, way) for name, way in ways.items() for scale in dict.fromkeys(scales)
    ]


def filter_settings(modes: Sequence[str], borders: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of mode and border that a filter can have.

    Raises:
        InputError: For an unknown mode or border, or if no pair is left.
    """
    for mode in modes:
        check_resize_mode(mode)
    for border in borders:
        if border not in BORDERS:
            raise InputError(f"border is one of {', '.join(BORDERS)}, got {border!r}")
    pairs = [
        (mode, border)
        for border in borders
        for mode in modes
        if border == "circular" or mode == "trigonometric"
    ]
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
    cfg_options: dict | None,
    test_mode: str,
    backbone: dict,
) -> dict:
    """Evaluate a checkpoint in one way and at one scale; nothing is left on disk.

    Args:
        size: Factor of the config's own test size.
        config: See :func:`cases`, as are ``demo`` and ``cfg_options``.
        checkpoint: A checkpoint of the whole segmentor.
        test_mode: ``slide`` or ``whole``, mmsegmentation's ``model.test_cfg.mode``.
        backbone: Settings of the backbone that are changed.

    Returns:
        All metrics of the config's evaluator (percent), ``metric``, the name of the main one, and
        ``seconds``, the time of the whole evaluation.
    """
    quiet_third_party()
    with tempfile.TemporaryDirectory() as work_dir:
        cfg = _test_config(config, checkpoint, demo, cfg_options, work_dir)
        scale_test_images(cfg, size)
        cfg.model.test_cfg.mode = test_mode
        cfg.model.backbone.update(backbone)
        cfg.log_level, cfg.visualizer = "ERROR", dict(type="Visualizer", vis_backends=[])
        # Its processes end with the test: later they would outlive this process for seconds.
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
    config: str, checkpoint: str, demo: bool, cfg_options: dict | None, work_dir: str | None
) -> Config:
    """Return the config of an evaluation, whose checkpoint and data are there."""
    cfg = read_config(config)
    if demo:
        shrink(cfg)
        write_data(cfg)
    cfg.setdefault("work_dir", None)
    merge_options(cfg, cfg_options)
    cfg.work_dir = work_dir or cfg.work_dir
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
    """Multiply the size to which test images are resized, in place.

    Raises:
        InputError: If the test pipeline has no ``Resize`` to a ``scale``.
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


def read_metrics(results: dict) -> dict[str, dict[float, float | str]]:
    """Return the main metric, or why there is none, by way and scale.

    Args:
        results: Of :func:`.sweep.run_sweep`, for :func:`cases`.
    """
    table = {}
    for entry in results["cases"]:
        row = table.setdefault(entry["series"], {})
        record = entry["records"][0] if entry["records"] else None
        row[entry["size"]] = record[record["metric"]] if record else entry["status"].split(":")[0]
    return table


def format_table(results: dict) -> str:
    """Return a Markdown table: ways, metric at each scale, in brackets the difference to sliding
    windows."""
    table = read_metrics(results)
    # A sweep that was gone on with may hold scales that not every way has.
    scales = sorted({scale for row in table.values() for scale in row})
    rows = [[_metric_name(results), *(f"x {scale:g}" for scale in scales)]]
    for way, row in table.items():
        reference = {} if way == SLIDE else table.get(SLIDE, {})
        rows.append([way, *(_cell(row.get(scale, ""), reference.get(scale)) for scale in scales)])
    return tables.format_table(rows)


def _cell(value: float | str, reference: float | str | None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(reference, float):
        return f"{value:.2f} ({value - reference:+.2f})"
    return f"{value:.2f}"


def _metric_name(results: dict) -> str:
    names = (entry["records"][0]["metric"] for entry in results["cases"] if entry["records"])
    return next(names, "metric")


def draw_plot(results: dict) -> Figure:
    """Draw the metric over the scale, a line for each way."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for way, row in read_metrics(results).items():
        points = sorted(point for point in row.items() if not isinstance(point[1], str))
        style = dict(color="black", linestyle="--") if way == SLIDE else {}
        axis.plot([x for x, _ in points], [y for _, y in points], marker="o", label=way, **style)
    axis.set(
        xlabel="test size, relative to the config's", ylabel=f"{_metric_name(results)}, percent"
    )
    axis.legend(frameon=False, fontsize="small")
    axis.grid(alpha=0.3)
    return figure
