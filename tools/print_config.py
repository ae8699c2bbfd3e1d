#!/usr/bin/env python
"""Print a config in full, or the parameter groups of its optimizer:

    python tools/print_config.py configs/upernet_gfnet_ade20k.py --demo
    python tools/print_config.py configs/upernet_gfnet_ade20k.py --param-groups
    python tools/print_config.py my-model > my_model.py     (a folder of publish_checkpoint.py)

Changes by --demo and --cfg-options are listed at the end as comments; the output is a valid config.
"""

import argparse
from copy import deepcopy

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser, or_shared=True)
    parser.add_argument(
        "--param-groups",
        action="store_true",
        help="print learning rate and weight decay of each parameter group instead",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.engine.optimizers.param_groups import build_optimizer, param_group_table
        from gfnet_dense.utils.config import shared_folder
        from gfnet_dense.utils.config_diff import describe_changes

        folder = shared_folder(args.config)
        cfg = cli.read_config(args.config) if folder is None else cli.read_shared_config(folder)
        full = deepcopy(cfg)
        cli.adapt_config(cfg, args)
        full.work_dir = cfg.work_dir
        if args.param_groups:
            print(param_group_table(build_optimizer(cfg)))
            return
        print(cfg.pretty_text)
        if changes := describe_changes(full.to_dict(), cfg.to_dict()):
            print(f"# Changed by --demo and --cfg-options:\n{changes}")


if __name__ == "__main__":
    main()
