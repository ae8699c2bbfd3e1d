#!/usr/bin/env python
"""Train HorNet-GF's demo with two modes of resizing its filters; write a table to docs/resizing.md:

    python .dev/hornet_transfer.py

This takes about an hour on two CPU cores. What is in work_dirs/hornet_transfer is not repeated.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gfnet_dense import cli

ROOT = Path(__file__).parents[1]
CONFIG = "upernet_hornet-tiny-gf_ade20k"
TRAININGS = ("bilinear", "trigonometric")  # modes of resizing in training, the published one first
SEEDS = (0, 1, 2)
SCALES = (1.0, 1.5, 2.0)  # of the test images; at 1 they are as high as the crop
WORK_DIR = Path("work_dirs") / "hornet_transfer"


def train_and_test(mode: str, seed: int) -> dict[str, Any]:
    """Train and test one model by the tools of the project, as far as that is not done.

    Args:
        mode: Mode of resizing in training.
        seed: Seed of the training.

    Returns:
        Results of :func:`gfnet_dense.benchmark.sweep.run_sweep`.

    Raises:
        InputError: If a tool fails. The reason is on the console.
    """
    from gfnet_dense.demo.shrink_segmentation import MAX_ITERS

    folder = WORK_DIR / mode / f"seed{seed}"
    checkpoint, out = folder / f"iter_{MAX_ITERS}.pth", folder / "transfer"
    demo = ["--demo", "--cfg-options", f"model.backbone.filter_resize={mode}"]
    if not checkpoint.exists():
        _run("train", CONFIG, "--work-dir", folder, *demo, f"randomness.seed={seed}")
    scales = ["--scales", *SCALES, "--borders", "circular"]
    _run("benchmark", "transfer", CONFIG, checkpoint, *scales, "--resume", "--out", out, *demo)
    return json.loads((out / "results.json").read_text())


def _run(tool: str, *words: object) -> None:
    from gfnet_dense.utils.errors import InputError

    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, words)]
    print("$ python", *command[1:], flush=True)
    if code := subprocess.run(command).returncode:
        raise InputError(f"{tool}.py ended with code {code}, see above")


def format_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return a Markdown table with a row for each pair of training and test setting.

    Args:
        results: For each mode of resizing in training, the results of :func:`train_and_test` with
            each seed.
    """
    import numpy as np

    import borders
    from gfnet_dense.benchmark.transfer import read_metrics
    from gfnet_dense.utils import tables

    rows = [["trained with", "tested", *(f"x {scale:g}" for scale in SCALES)]]
    for mode, seeds in results.items():
        metrics = [read_metrics(each) for each in seeds]
        by_setting = {
            setting: np.array([[each[setting][scale] for scale in SCALES] for each in metrics])
            for setting in metrics[0]
        }
        rows += [[mode, setting, *borders.cells(by_setting, setting)] for setting in by_setting]
    return tables.format_table(rows, left=(0, 1))


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    with cli.plain_errors():
        from pages import insert_block

        results: dict[str, list[dict[str, Any]]] = {mode: [] for mode in TRAININGS}
        for seed in SEEDS:
            for mode in TRAININGS:
                results[mode].append(train_and_test(mode, seed))
        table = format_table(results)
        page = ROOT / "docs" / "resizing.md"
        page.write_text(insert_block(page.read_text(), "hornet", table))
        print(f"{table}\n\nwritten: {page}")


if __name__ == "__main__":
    main()
