"""Testing a model and writing an analysis of its errors."""

from datetime import datetime
from pathlib import Path

from mmengine.config import Config
from mmengine.model import BaseTTAModel

from gfnet_dense.engine.runner import build_runner
from gfnet_dense.engine.runner.preparation import prepare_testing
from gfnet_dense.utils.errors import InputError

from .detection import DetectionErrors
from .detection_report import report_detection
from .page import render
from .results import Results
from .segmentation import SegmentationErrors
from .segmentation_report import report_segmentation

MAX_WORST = 24  # longer sheets are larger than browsers draw


def analyze(
    cfg: Config, checkpoint: str, folder: Path, num_worst: int, command: str, amp: str | None = None
) -> Path:
    """Test a model on the test data of its config, and write an analysis of its errors.

    Args:
        cfg: A whole config with its ``work_dir``; modified in place.
        checkpoint: A file or a URL.
        folder: Folder for the analysis. Files of an earlier one are replaced one by one.
        num_worst: Number of images on a sheet, for detections of each kind of error.
        command: The command, for the page.
        amp: Mixed precision, see :func:`.prepare_testing`; None for float32.

    Returns:
        The page, which needs no other file.

    Raises:
        InputError: If the config, the checkpoint or the data cannot be used, or the analysis cannot
            be written.
    """
    if not 1 <= num_worst <= MAX_WORST:
        raise InputError(f"a sheet shows 1 to {MAX_WORST} images, got {num_worst}")
    prepare_testing(cfg, checkpoint, amp)
    results = Results(folder)
    runner = build_runner(cfg)
    if isinstance(runner.model, BaseTTAModel):
        raise InputError(
            "the config tests with augmentation, but one pass over each image is analyzed"
        )
    if cfg.default_scope == "mmdet":
        detected = DetectionErrors()
        runner.register_hook(detected)
        runner.test()
        report = report_detection(detected, results, num_worst)
    else:
        errors = SegmentationErrors(num_worst)
        runner.register_hook(errors)
        runner.test()
        report = report_segmentation(errors, results)
    facts = {
        "command": command,
        "config": str(cfg.filename),
        "checkpoint": checkpoint,
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
    }
    results.write_text("index.html", render(report.title, facts, report.findings, report.sections))
    results.finish(facts | report.figures)
    return folder / "index.html"
