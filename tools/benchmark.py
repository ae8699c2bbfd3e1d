#!/usr/bin/env python
"""Measure time and memory of models at several resolutions:

    python tools/benchmark.py backbones --sizes 512 1024 2048
    python tools/benchmark.py backbones --against-published
    python tools/benchmark.py mixers
    python tools/benchmark.py model configs/upernet_gfnet_ade20k.py
    python tools/benchmark.py model configs/upernet_gfnet_ade20k.py --against
    python tools/benchmark.py transfer configs/upernet_gfnet_ade20k.py iter_160000.pth
    python tools/benchmark.py transfer upernet_hornet-tiny-gf_ade20k    (its authors' weights)

Tables are printed; results.json, results.csv and plots are written to --out. Only transfer needs
data and weights.
"""

import argparse
import signal
import sys
from pathlib import Path

from gfnet_dense import cli

SIZES = (224, 512, 1024, 2048, 4096)  # default sides of square images, in pixels


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    mixers = commands.add_parser("mixers", help="token mixers alone: table 1 of the GFNet paper")
    _add_sizes(mixers, (14, 28, 56, 112, 224, 512), "maps")

    backbones = commands.add_parser("backbones", help="GFNet-H and the backbones of others")
    backbones.add_argument("--models", nargs="+", metavar="NAME", help="measure only these")
    backbones.add_argument(
        "--against-published",
        action="store_true",
        help="GFNet-H-Ti against its published form instead, with the same weights",
    )
    _add_sizes(backbones, SIZES, "images")

    model = commands.add_parser("model", help="a whole segmentor or detector")
    model.add_argument("config", help="config file, or the name of a config of this project")
    model.add_argument("--demo", action="store_true", help="the shrunken copy of the config")
    model.add_argument(
        "--against",
        nargs="*",
        metavar="NAME",
        help="measure other models beside it, by default all of its task that are known here; "
        "stock-heads is the config with the heads of its library in place of ours; names of "
        "configs of this project are accepted, too",
    )
    _add_sizes(model, SIZES[1:4], "images")

    for command in (backbones, model):
        command.add_argument(
            "--train", action="store_true", help="measure a training step instead of a forward pass"
        )

    for command in (mixers, backbones, model):
        command.add_argument("--rounds", type=int, default=3, help="runs of each (default: 3)")
        command.add_argument("--batch-size", type=int, default=1)
        command.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
        cli.add_amp_argument(command)
        command.add_argument("--tf32", action="store_true", help="allow TF32, on NVIDIA GPUs")
        command.add_argument("--compile", action="store_true", help="with torch.compile")
        command.add_argument("--threads", type=int, help="on a CPU (default: PyTorch's choice)")

    transfer = commands.add_parser(
        "transfer",
        help="a trained segmentor's metric on images larger than its training crop",
        conflict_handler="resolve",  # --work-dir is defined again below, as a synonym of --out
    )
    cli.add_config_arguments(transfer)
    cli.add_optional_checkpoint_argument(transfer, "file to evaluate, as saved by tools/train.py")
    transfer.add_argument("--scales", nargs="+", type=float, default=[1, 1.5, 2], metavar="SCALE")
    transfer.add_argument(
        "--modes", nargs="+", help="modes of resizing the filters (default: all modes)"
    )
    transfer.add_argument(
        "--borders",
        nargs="+",
        help="borders of the filters in the test (default: those of the config, and zeros)",
    )

    for command, time_limit in ((mixers, 900), (backbones, 900), (model, 900), (transfer, 86400)):
        command.add_argument(
            "--time-limit",
            type=float,
            default=time_limit,
            metavar="SECONDS",
            help=f"time limit of one run (default: {time_limit})",
        )
        command.add_argument("--resume", action="store_true", help="go on with what is in --out")
        names = ["--out", "--work-dir"] if command is transfer else ["--out"]
        default = Path("work_dirs", "benchmark", command.prog.split()[-1])
        help_text = f"where results go (default: {default})"
        command.add_argument(*names, type=Path, default=default, metavar="DIR", help=help_text)
    return parser.parse_args()


def _add_sizes(parser: cli.ArgumentParser, default: tuple[int, ...], what: str) -> None:
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=list(default),
        metavar="SIDE",
        help=f"sides of the square {what} (default: {' '.join(map(str, default))})",
    )


def measured_cases(args: argparse.Namespace) -> list:
    """Return the cases of a sweep that measures time and memory: all subcommands except transfer.

    Raises:
        InputError: If the arguments do not fit together, or the device or a model does not exist.
    """
    from gfnet_dense.benchmark.measure import Settings, check_settings
    from gfnet_dense.utils.errors import InputError

    settings = Settings(
        device=args.device,
        threads=args.threads,
        amp=args.amp,
        tf32=args.tf32,
        compile=args.compile,
        train=getattr(args, "train", False),
        batch_size=args.batch_size,
    )
    check_settings(settings)
    sizes = sorted(set(args.sizes))
    if args.command == "mixers":
        from gfnet_dense.benchmark import mixers

        return mixers.cases(sizes, settings)
    if args.command == "model":
        from gfnet_dense.benchmark import whole_model

        return whole_model.cases(args.config, sizes, settings, args.demo, args.against)
    from gfnet_dense.benchmark import backbones

    if args.against_published and args.models:
        raise InputError("--against-published is for GFNet-H-Ti alone: leave out --models")
    if args.against_published:
        return backbones.published_cases(sizes, settings)
    return backbones.cases(args.models, sizes, settings)


def transfer_cases(args: argparse.Namespace) -> list:
    """Return the cases of the subcommand transfer.

    Raises:
        InputError: If the checkpoint cannot be read, or the arguments do not fit the config.
    """
    from gfnet_dense.benchmark import transfer
    from gfnet_dense.checkpoint.download import fetch
    from gfnet_dense.checkpoint.safe_reader import read_checkpoint
    from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES

    read_checkpoint(fetch(args.checkpoint))  # fails once here instead of in every run
    modes = args.modes or FILTER_RESIZE_MODES
    return transfer.cases(
        args.config, args.checkpoint, args.scales, modes, args.borders, args.demo, args.cfg_options
    )


def report(args: argparse.Namespace, results: dict) -> str:
    """Write the CSV file and plots of a sweep, and return its tables as text."""
    from gfnet_dense.benchmark import report as r
    from gfnet_dense.benchmark import transfer

    plot = args.out / "plot.png"
    if args.command == "transfer":
        r.write_plot(transfer.draw_plot(results), plot)
        return transfer.format_table(results)
    rows, text, figure = r.present(results)
    r.write_csv(rows, args.out / "results.csv")
    r.write_plot(figure, plot)
    return text


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up as on Ctrl-C
    with cli.plain_errors():
        if args.command == "transfer":
            args.checkpoint = cli.checkpoint_of(args)
        if args.command in ("model", "transfer"):
            cli.read_config(args.config)  # to say what is wrong with it before others import
        from gfnet_dense.benchmark.sweep import run_sweep

        cases = transfer_cases(args) if args.command == "transfer" else measured_cases(args)
        path, rounds = args.out / "results.json", getattr(args, "rounds", 1)
        settings = {k: v for k, v in vars(args).items() if k not in ("out", "resume")}
        try:
            results = run_sweep(cases, path, rounds, args.time_limit, args.resume, settings)
        except KeyboardInterrupt:
            how = f"{path} holds what was measured, the same command with --resume goes on"
            print(f"\ninterrupted; {how}", file=sys.stderr)
            sys.exit(130)
        print(f"\n{report(args, results)}\n\ntables and plots: {args.out}")
        if any(entry["status"].startswith("failed") for entry in results["cases"]):
            print(f"why some failed: {path.with_suffix('.log')}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
