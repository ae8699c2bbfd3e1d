#!/usr/bin/env python
"""Train the segmentor or detector of a config:

    python tools/train.py configs/upernet_gfnet_ade20k.py
    python tools/train.py configs/upernet_gfnet_ade20k.py --demo        (minutes, synthetic scenes)
    python tools/train.py configs/upernet_gfnet_ade20k.py --resume

Checkpoints, logs, and pictures of curves and predictions are written to the work dir.
"""

import argparse

from gfnet_dense import cli
from gfnet_dense.utils.types import BALANCE


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_run_arguments(parser)
    cli.add_trust_argument(parser)
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in the work dir"
    )
    cli.add_amp_argument(parser)
    parser.add_argument(
        "--balance",
        nargs="+",
        choices=BALANCE,
        default=[],
        help="against rare classes of a segmentation: class weights from the pixels of each class, "
        "a Lovasz loss beside the cross entropy, a sampler for images with rare classes",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        cfg = cli.load_config(args)
        cli.set_launcher(cfg, args)
        from gfnet_dense.engine.runner import build_runner
        from gfnet_dense.engine.runner.preparation import prepare_training

        prepare_training(cfg, resume=args.resume, amp=args.amp)
        shares = None
        if args.balance:
            from gfnet_dense.engine.runner.balancing import balance

            shares = balance(cfg, args.balance)
        runner = build_runner(cfg)
        if shares is not None:
            runner.logger.info(f"--balance {' '.join(args.balance)}:\n{shares}")
        cli.train(runner)


if __name__ == "__main__":
    main()
