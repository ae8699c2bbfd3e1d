#!/usr/bin/env python
"""Compare training runs in a table and a plot of their curves:

python tools/analyze_logs.py work_dirs/upernet_gfnet_ade20k work_dirs/other --out curves.png
"""

import argparse
from pathlib import Path

from gfnet_dense import cli
from gfnet_dense.utils.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="work directories, or scalars.json")
    parser.add_argument(
        "--names", nargs="+", help="names of the runs (default: names of their directories)"
    )
    parser.add_argument("--out", type=Path, default=Path("curves.png"), metavar="PNG")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.visualization.figures import save_figure
        from gfnet_dense.visualization.log_curves import draw_logs, format_logs, read_log

        if args.names and len(args.names) != len(args.runs):
            raise InputError(f"--names are {len(args.names)} for {len(args.runs)} runs")
        if args.out.suffix not in (".png", ".svg"):
            raise InputError(f"--out is a PNG or SVG file, got {args.out}")
        logs = [read_log(run) for run in args.runs]
        for log, name in zip(logs, args.names or (), strict=False):
            log.name = name
        print(format_logs(logs))
        save_figure(draw_logs(logs), args.out)
        print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
