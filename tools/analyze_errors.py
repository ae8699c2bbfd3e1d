#!/usr/bin/env python
"""Test a checkpoint and explain its errors in one HTML page, with tables and pictures:

python tools/analyze_errors.py configs/upernet_gfnet_ade20k.py iter_160000.pth --out errors
python tools/analyze_errors.py upernet_hornet-tiny-gf_ade20k        (its authors' weights)
"""

import argparse
import os
from pathlib import Path

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser)
    cli.add_optional_checkpoint_argument(parser, "file to analyze, as saved by tools/train.py")
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the analysis (default: WORK_DIR/errors)"
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=8,
        metavar="N",
        help="images on a sheet, for detections of each kind of error (default: 8)",
    )
    cli.add_amp_argument(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        args.checkpoint = cli.checkpoint_of(args)
        cfg = cli.load_config(args)
        from gfnet_dense.analysis.run import analyze

        folder = Path(args.out or os.path.join(cfg.work_dir, "errors"))
        page = analyze(cfg, args.checkpoint, folder, args.worst, cli.command_line(), args.amp)
        print(f"errors: {page}")


if __name__ == "__main__":
    main()
