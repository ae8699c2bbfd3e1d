#!/usr/bin/env python
"""Train a config: python tools/train.py configs/upernet_gfnet_ade20k.py [--demo]"""

import argparse

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_run_arguments(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the work dir"
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision (GPU)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        cfg = cli.load_config(args)
        cli.set_launcher(cfg, args)
        cli.prepare_training(cfg, resume=args.resume, amp=args.amp)
        cli.train(cli.build_runner(cfg))


if __name__ == "__main__":
    main()
