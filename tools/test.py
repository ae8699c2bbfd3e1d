#!/usr/bin/env python
"""Evaluate a checkpoint on the test data of its config:

python tools/test.py configs/upernet_gfnet_ade20k.py iter_160000.pth --show-dir shown
python tools/test.py upernet_hornet-tiny-gf_ade20k                  (its authors' weights)
"""

import argparse

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_run_arguments(parser)
    cli.add_optional_checkpoint_argument(parser, "file to evaluate, as saved by tools/train.py")
    parser.add_argument(
        "--out", metavar="DIR", help="save predictions there: PNG label maps, or COCO JSON"
    )
    parser.add_argument("--show-dir", metavar="DIR", help="save images with overlays there")
    cli.add_amp_argument(parser)
    parser.add_argument("--tta", action="store_true", help="several scales and flips, averaged")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        args.checkpoint = cli.checkpoint_of(args)
        cfg = cli.load_config(args)
        cli.set_launcher(cfg, args)
        from gfnet_dense.engine.runner import build_runner
        from gfnet_dense.engine.runner.preparation import prepare_testing

        prepare_testing(cfg, args.checkpoint, args.amp)
        cli.set_outputs(cfg, out=args.out, show_dir=args.show_dir, tta=args.tta)
        cli.test(build_runner(cfg))


if __name__ == "__main__":
    main()
