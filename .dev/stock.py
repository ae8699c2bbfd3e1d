#!/usr/bin/env python
"""Run stock tools on our configs and our commands on stock configs; write docs/stock.md:

    python .dev/stock.py
    python .dev/stock.py --only yolox detr

This takes up to an hour on two cores. Finished rows in work_dirs/stock are not repeated,
except for those that --only names by a part of their name. Logs of all runs are kept there.
"""

import argparse
import json
import multiprocessing
import os
import re
import runpy
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import stock_configs
from gfnet_dense import cli
from gfnet_dense.demo import write_ade20k, write_coco
from gfnet_dense.utils.tables import format_table
from pages import insert_block
from stock_rows import OUR_COMMANDS, STOCK_TOOLS, THEIRS, WITH_WEIGHTS, Row, all_rows

ROOT = Path(__file__).parent.parent
OUT = Path("work_dirs/stock")
TIMEOUT = 600  # seconds of one command
PACKAGES = ("torch", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmdetection")
# Sentences for errors that are known, by a regular expression
WHY = {
    "MaskFormer and Mask2Former are not supported": (
        "mmsegmentation's `get_flops.py` supports neither MaskFormer nor Mask2Former, by its own "
        "words"
    ),
    "KeyError: 'border'": (
        "CenterNet reads from its samples where a transform has put the image, and `benchmark.py "
        "model` has no such transform: it has no data"
    ),
    "ROIs in ROIAlign cannot": (
        "`benchmark.py model` builds models without calling `init_weights`, in which Sparse R-CNN "
        "sets its boxes: random ones have negative sides"
    ),
}


def write_config(row: Row, folder: Path) -> Path:
    """Write the config that a row is run on, small enough for synthetic scenes."""
    path = folder / f"{row.name}.py"
    if row.table == STOCK_TOOLS:
        cfg = cli.read_config(row.name)
        args = argparse.Namespace(config=row.name, demo=True, work_dir=None, cfg_options=None)
        cli.adapt_config(cfg, args)  # as print_config.py CONFIG --demo does
        stock_configs.shorten(cfg)
        path.write_text(cfg.pretty_text)
        return path
    stock = stock_configs.find_stock_config(row.library, row.name)
    cfg = stock_configs.tiny_config(stock, keep_weights=row.name == WITH_WEIGHTS[0])
    path.write_text(stock_configs.lazy_text(cfg) if row.is_lazy else cfg.pretty_text)
    return path


def commands(row: Row, config: Path, work_dir: Path) -> dict[str, list[Any]]:
    """Return the command lines of a row by name, without the interpreter, in their order."""
    image = next(Path("data/demo").rglob("val*/*.jpg"))
    checkpoint = work_dir / "first.pth"
    options = ["--cfg-options", _longer(config)]
    if row.table == STOCK_TOOLS:
        tools = Path(str(import_module(row.library).__file__)).parent / ".mim" / "tools"
        analysis, is_det = tools / "analysis_tools", row.library == "mmdet"
        size = ["--num-images", 2] if is_det else ["--shape", 128, 128]
        weights = ["--checkpoint", checkpoint] if is_det else [checkpoint]
        task = ["--max-iter", 3, "--num-warmup", 1] if is_det else []
        samples = ["--output-dir", work_dir / "samples", "--not-show"]
        return {
            "train.py": [tools / "train.py", config, "--work-dir", work_dir],
            "train.py --resume": [
                *(tools / "train.py", config, "--work-dir", work_dir, "--resume", *options)
            ],
            "test.py": [tools / "test.py", config, checkpoint, "--work-dir", work_dir],
            "get_flops.py": [analysis / "get_flops.py", config, *size],
            "benchmark.py": [
                *(analysis / "benchmark.py", config, *weights, *task, "--work-dir", work_dir)
            ],
            "browse_dataset.py": [analysis / "browse_dataset.py", config, *samples],
            "print_config.py": [tools / "misc" / "print_config.py", config],
            "inferencer": [ROOT / ".dev" / "stock_inference.py", config, checkpoint, image],
        }
    tools, out = ROOT / "tools", work_dir / "out"
    sizes = ["--sizes", 128, "--rounds", 1, "--out", work_dir / "benchmark"]
    return {
        "train": [tools / "train.py", config, "--work-dir", work_dir],
        "--resume": [tools / "train.py", config, "--work-dir", work_dir, "--resume", *options],
        "test": [tools / "test.py", config, checkpoint, "--work-dir", work_dir],
        "infer": [tools / "infer.py", config, checkpoint, image, "--out-dir", out],
        "check_dataset": [tools / "check_dataset.py", config, "--work-dir", work_dir],
        "browse_dataset": [
            *(tools / "browse_dataset.py", config, "--work-dir", work_dir, "--num", 2)
        ],
        "print_config": [tools / "print_config.py", config],
        "benchmark": [tools / "benchmark.py", "model", config, *sizes],
    }


def _longer(config: Path) -> str:
    """Return the override that makes a training of :func:`stock_configs.shorten` longer."""
    is_epochs = "max_epochs=" in config.read_text()
    return "train_cfg.max_epochs=2" if is_epochs else "train_cfg.max_iters=3"


def run_row(row: Row) -> dict[str, Any]:
    """Run the commands of a row, and return seconds and error of each, '' if it has none."""
    folder = OUT / re.sub(r"\W+", "-", row.key)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = write_config(row, folder)
    work_dir, results = folder / "work_dir", {}
    for name, argv in commands(row, config, work_dir).items():
        start, log = time.time(), folder / f"{name.replace(' ', '')}.log"
        code = run(argv, log)
        error = find_error(code, log.read_text(errors="replace"))
        results[name] = dict(seconds=round(time.time() - start, 1), error=error)
        saved = sorted(work_dir.glob("*_[0-9]*.pth"))
        if saved and not (work_dir / "first.pth").exists():
            shutil.copy(saved[0], work_dir / "first.pth")
    shutil.rmtree(work_dir, ignore_errors=True)  # hundreds of MB
    return results


def run(argv: Iterable[Any], log: Path) -> int | None:
    """Run a script in a fork of this process, which has imported the libraries.

    No module of this project with a backbone, a hook or a dataset is imported before: whether a
    stock tool finds them by the config is the question.

    Args:
        argv: Path of the script, and its arguments.
        log: File of its output.

    Returns:
        The exit code, None after :data:`TIMEOUT`.
    """
    assert not {"gfnet_dense.models", "gfnet_dense.engine.hooks"} & set(sys.modules)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_run_script, args=([str(each) for each in argv], log))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def _run_script(argv: list[str], log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent)
    runpy.run_path(argv[0], run_name="__main__")


def find_error(code: int | None, text: str) -> str:
    """Return why a command failed, '' if it did not.

    Args:
        code: Its exit code. ``benchmark.py`` has 0 as well if what it measured has failed.
        text: Its output.
    """
    failed = re.search(r" at \d+: failed: (.+), [\d.]+ s;", text)
    if failed:
        return failed[1]
    if code == 0:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    sentences = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception)\b", line)]
    return (sentences or lines or ["no output"])[-1]


def format_results(results: dict[str, dict]) -> str:
    """Return both tables in Markdown, with a list of the errors below."""
    parts, errors = [], []
    for table in (STOCK_TOOLS, OUR_COMMANDS):
        rows = [row for row in all_rows() if row.table == table and row.key in results]
        if not rows:
            continue
        names = list(results[rows[0].key])
        cells = [["config", *names]]
        for row in rows:
            cell = [f"{row.name}{' (lazy)' * row.is_lazy}"]
            for name in names:
                error = results[row.key][name]["error"]
                why = next((text for regex, text in WHY.items() if re.search(regex, error)), error)
                if error and why not in errors:
                    errors.append(why)
                cell.append(f"no, {errors.index(why) + 1}" if error else "yes")
            cells.append(cell)
        text = format_table(cells, left=range(len(cells[0])))
        parts.append(f"## {table.capitalize()}\n\n{text}")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    listed = [f"{i}. {text}" for i, text in enumerate(errors, 1)]
    return "\n\n".join([*parts, "\n".join(listed), f"Versions: {versions}."])


def _write_weights() -> None:
    """Put random weights where mmengine looks for :data:`WITH_WEIGHTS` without a network.

    That is a file named in open_mmlab.json in the folder MMENGINE_HOME.
    """
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS

    home = (OUT / "mmengine").absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ["MMENGINE_HOME"] = str(home)
    config, address = WITH_WEIGHTS
    name = address.partition("://")[2]
    (home / "open_mmlab.json").write_text(json.dumps({name: f"{name}.pth"}))
    cfg = Config.fromfile(stock_configs.find_stock_config("mmseg", config))
    backbone = MODELS.build(dict(cfg.model.backbone, _scope_="mmseg"))
    torch.save(backbone.state_dict(), home / f"{name}.pth")


def main() -> None:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these rows again")
    args = parser.parse_args()
    cli.quiet_third_party()
    cli.limit_onednn_cache()
    for module in ("datasets", "models", "evaluation", "engine", "visualization"):
        for library in THEIRS:
            import_module(f"{library}.{module}")
    results_path = OUT / "results.json"
    OUT.mkdir(parents=True, exist_ok=True)
    results = json.loads(results_path.read_text()) if results_path.exists() else {}
    rows = [
        row
        for row in all_rows()
        if (any(name in row.key for name in args.only) if args.only else row.key not in results)
    ]
    write_ade20k()
    write_coco()
    _write_weights()
    start = time.time()
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        futures = {pool.submit(run_row, row): row for row in rows}
        for done, future in enumerate(as_completed(futures), 1):
            row = futures[future]
            results[row.key] = future.result()
            results_path.write_text(json.dumps(results, indent=1))
            failed = {k: v["error"] for k, v in results[row.key].items() if v["error"]}
            left = (time.time() - start) / done * (len(rows) - done) / 60
            print(f"{done}/{len(rows)} {row.key}: {failed or 'all run'}; {left:.0f} min left")
    page = ROOT / "docs" / "stock.md"
    page.write_text(insert_block(page.read_text(), "stock", format_results(results)))
    print(f"written: {page}")


if __name__ == "__main__":
    main()
