#!/usr/bin/env python
"""Test and measure this project on an NVIDIA GPU, in ten minutes, and report it: make gpu

    python .dev/gpu.py                                        # into docs/benchmarks/gpu
    python .dev/gpu.py --minutes 30 --out results             # with the cases that take longer
    python .dev/gpu.py --device cpu --tiny --out results      # seconds: tries the command itself

It runs the tests of tests/gpu, and measures precision, images of many shapes, backbones, training
steps and a whole segmentor. It needs PyTorch with CUDA, mmengine, lazy-loader, numpy, rich and
safetensors; without pytest, mmsegmentation or matplotlib the parts that use them are left out.
It uses no network and no data. Interrupted, the same command goes on.
"""

import json
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from gpu_tests import run_tests

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks" / "gpu"
NEEDED = ("torch", "mmengine", "lazy_loader", "numpy", "rich", "safetensors")
MODELS = ("GFNet-H-Ti", "ResNet-50", "Swin-T", "ConvNeXt-T")
CONFIG = "upernet_gfnet_ade20k"
UNFINISHED = "unfinished.json"  # is in the folder of the results until all parts are done
PARTS_SHARE = 0.95  # of the time; imports, tables and figures take the rest
TESTS_SHARE = 0.3  # of the time of all parts; what the tests leave, the parts get
RUN_LIMIT = 90  # seconds of one run; compiling takes most


@dataclass(frozen=True)
class Part:
    """A sweep that is a part of the command.

    Attributes:
        name: Name of its JSON file; the part before the ``_`` is what is measured.
        seconds: Seconds of ten minutes that it may take; what a part leaves, the next ones get.
        cases: Function that returns its cases.
        settings: Settings that the JSON file records.
    """

    name: str
    seconds: float
    cases: Callable[[], list]
    settings: dict


def parse_args() -> Namespace:
    from gfnet_dense import cli

    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:1, cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, without compiling")
    parser.add_argument("--minutes", type=float, default=10, help="for all parts (default: 10)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where results go")
    return parser.parse_args()


def check_args(args: Namespace) -> None:
    """Raise InputError for arguments that do not fit together, or a missing GPU."""
    import torch

    from gfnet_dense.benchmark.measure import Settings, check_settings
    from gfnet_dense.utils.errors import InputError

    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"PyTorch {torch.__version__} finds no NVIDIA GPU here: take a machine and a build of "
            "PyTorch that have CUDA, or try the command by --device cpu --tiny --out DIR"
        )
    check_settings(Settings(device=args.device))
    if args.out.resolve() == RESULTS and (args.tiny or args.device == "cpu"):
        raise InputError(f"{RESULTS} is for results of GPUs: add --out DIR to --tiny or to a CPU")
    if not args.minutes > 0:
        raise InputError(f"--minutes is above 0, got {args.minutes:g}")


def make_parts(device: str, tiny: bool) -> list[Part]:
    """Return the parts in their order; print what is left out here, and why."""
    from gfnet_dense.benchmark import backbones
    from gfnet_dense.benchmark.measure import Settings
    from gfnet_dense.benchmark.processes import Case
    from gpu_cases import PLANS, run_precision, run_shapes

    others: dict[str, dict] = {"bfloat16": {"amp": "bfloat16"}}
    if device != "cpu":
        others |= {"TF32": {"tf32": True}, "float16": {"amp": "float16"}}
    precisions = {"float32": {}, **others}
    models = backbones.available(MODELS[:1] if tiny else MODELS)
    reason = backbones.why_not("MSCAN-T")  # one of mmsegmentation's
    if reason:
        print(f"the whole segmentor is left out: {reason}")

    def sizes(*values: int) -> list[int]:
        return [32] if tiny else list(values)

    def make(kind: str, label: str, seconds: float, cases: Callable, **fields) -> Part:
        settings = Settings(device=device, **fields)
        recorded = {"command": kind, "label": label, **asdict(settings)}
        return Part(f"{kind}_{label}", seconds, lambda: cases(settings), recorded)

    def precision(settings: Settings) -> list:
        options = dict(stored=16 if tiny else 128, settings=asdict(settings))
        maps = [24] if tiny else [136, 200]
        return [Case("errors", size, run_precision, options) for size in maps]

    def shapes(counts: list[int]) -> Callable:
        def cases(settings: Settings) -> list:
            options = dict(settings=asdict(settings), shortest=32 if tiny else 480)
            limits = PLANS[1:2] if tiny else PLANS
            return [
                Case(f"{plans} plans", count, run_shapes, dict(options, plans=plans))
                for plans in limits
                for count in counts
            ]

        return cases

    def inference(settings: Settings) -> list:
        return backbones.cases(models, sizes(512, 1024, 2048), settings)

    def training(settings: Settings) -> list:
        return backbones.cases(models, sizes(512, 1024), settings)

    def compiled(settings: Settings) -> list:
        return backbones.cases(["GFNet-H-Ti"], sizes(512), settings)

    def segmentor(settings: Settings) -> list:
        from gfnet_dense.benchmark import whole_model

        return whole_model.cases(CONFIG, sizes(512, 1024), settings, demo=tiny)

    def heads(settings: Settings) -> list:
        from gfnet_dense.benchmark import whole_model
        from gfnet_dense.benchmark.peers import STOCK_HEADS

        rivals, sides = [STOCK_HEADS], sizes(512, 1024, 2048)
        return whole_model.cases(CONFIG, sides, settings, demo=tiny, against=rivals)

    batch = 1 if tiny else 4
    main = {"float32": {}} if tiny else precisions
    parts = [make("precision", "float32", 30, precision)]  # loads the libraries of the GPU
    parts += [make("precision", name, 10, precision, **p) for name, p in others.items()]
    parts += [make("shapes", "inference", 45, shapes([2] if tiny else [16, 128]))]
    parts += [
        make("shapes", "training", 30, shapes([2] if tiny else [32]), train=True, batch_size=batch)
    ]
    parts += [make("backbones", name, 30, inference, **p) for name, p in precisions.items()]
    parts += [make("backbones", "compiled", 35, compiled, compile=True)]
    for name, p in main.items():
        if name != "TF32":
            parts.append(make("training", name, 20, training, train=True, batch_size=batch, **p))
    if not reason:
        parts += [make("model", name, 8, segmentor, **p) for name, p in main.items()]
        for name, p in main.items():
            if name != "float16":
                parts.append(make("heads", name, 12, heads, **p))
    return parts


def begin(args: Namespace) -> bool:
    """Prepare the folder of the results, and tell whether an interrupted run goes on.

    Raises:
        InputError: If the folder has an unfinished run with other arguments.
    """
    from gfnet_dense.utils.errors import InputError
    from gpu_report import KINDS, SHAPES, read_results

    mark, ours = args.out / UNFINISHED, {"device": args.device, "tiny": args.tiny}
    if mark.exists():
        if (theirs := json.loads(mark.read_text())) != ours:
            raise InputError(
                f"{args.out} has an unfinished run with {theirs}, not {ours}: take the same "
                f"arguments to go on, or remove {mark} to start anew"
            )
        print(f"going on with what is in {args.out}")
        return True
    args.out.mkdir(parents=True, exist_ok=True)
    for name in read_results(args.out):
        (args.out / f"{name}.json").unlink()
    for name in (*KINDS, *SHAPES):  # figures of the former results
        (args.out / f"{name}.png").unlink(missing_ok=True)
    mark.write_text(json.dumps(ours))
    return False


def run(args: Namespace) -> None:
    """Run what is missing, within the time."""
    from gfnet_dense.benchmark.sweep import describe_seconds, run_sweep
    from gpu_report import read_results

    end = time.monotonic() + PARTS_SHARE * 60 * args.minutes
    going_on = begin(args)
    parts = make_parts(args.device, args.tiny)
    tests = args.out / "tests.json"
    if not tests.exists():
        limit = TESTS_SHARE * (end - time.monotonic())
        print(f"tests of tests/gpu: at most {describe_seconds(limit)}", flush=True)
        run_tests(tests, limit)
    for i, part in enumerate(parts):
        left = end - time.monotonic()
        share = max(0, left * part.seconds / sum(other.seconds for other in parts[i:]))
        print(f"\npart {i + 1}/{len(parts)}, {part.name.replace('_', ', ')}: at most ", end="")
        print(f"{describe_seconds(share)}, all parts {describe_seconds(max(0, left))}", flush=True)
        path = args.out / f"{part.name}.json"
        resume = going_on and path.exists()
        run_sweep(part.cases(), path, 1, RUN_LIMIT, resume, part.settings, budget=share)
    for name in read_results(args.out):
        if name != "tests" and name not in failures(args.out):
            (args.out / f"{name}.log").unlink(missing_ok=True)
    (args.out / UNFINISHED).unlink()


def failures(folder: Path) -> list[str]:
    """Return the names of the results with tests or cases that have failed."""
    from gpu_report import read_results

    results = read_results(folder).items()
    return [name for name, result in results if '"status": "failed' in json.dumps(result)]


def write_page() -> None:
    """Write the section of docs/benchmarks.md from the results that belong to the repository."""
    from gpu_report import describe_page
    from pages import insert_block

    page = ROOT / "docs" / "benchmarks.md"
    page.write_text(insert_block(page.read_text(), "gpu", describe_page(RESULTS, page.parent)))
    print(f"written: {page}")


def main() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"error: {sys.executable} has no {', '.join(missing)}: install what is missing")
    # Also for the processes that measure and test: the package need not be installed.
    folders = [str(ROOT), str(ROOT / ".dev")]
    sys.path[:0] = folders
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *([others] if others else [])])
    from gfnet_dense import cli

    args = parse_args()
    cli.quiet_third_party()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up as on Ctrl-C
    if args.tiny:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # compiling takes minutes on a CPU
    with cli.plain_errors():
        check_args(args)
        start = time.monotonic()
        try:
            run(args)
        except KeyboardInterrupt:
            print(f"\ninterrupted; {args.out} holds what was measured, the same command goes on")
            sys.exit(130)
        from gpu_report import write_report

        print(write_report(args.out, draw=find_spec("matplotlib") is not None))
        print(f"\nin {time.monotonic() - start:.0f} s: {args.out / 'report.md'}")
        if args.out.resolve() == RESULTS:
            write_page()
        if failed := failures(args.out):
            sys.exit(f"error: some of {', '.join(failed)} failed: the logs in {args.out} say why")


if __name__ == "__main__":
    main()
