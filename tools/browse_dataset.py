#!/usr/bin/env python
"""Draw samples of a config's dataset, after augmentation, in one picture:

python tools/browse_dataset.py configs/upernet_gfnet_ade20k.py --num 12 --out samples.png
"""

import argparse
from pathlib import Path

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser)
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--num", type=int, default=8, help="number of samples (default: 8)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of choice and augmentation (default: 0)"
    )
    parser.add_argument(
        "--out", type=Path, help="PNG file (default: browse_SPLIT.png in the work dir)"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        cfg = cli.load_config(args)
        from gfnet_dense.datasets.checks.datasets import check_dataset_folders
        from gfnet_dense.visualization.browse import browse_dataset

        check_dataset_folders(cfg, (args.split,))
        path = args.out or Path(cfg.work_dir) / f"browse_{args.split}.png"
        browse_dataset(cfg, args.split, args.num, args.seed, path)
        print(f"contact sheet: {path}")


if __name__ == "__main__":
    main()
