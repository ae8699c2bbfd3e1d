#!/usr/bin/env python
"""Read every image and annotation of a config's datasets and list all problems:

    python tools/check_dataset.py configs/upernet_gfnet_ade20k.py
    python tools/check_dataset.py configs/my_dataset.py --fix data/mended

The second command also writes a copy in which everything is mended that has one meaning only.
"""

import argparse
import sys
from pathlib import Path

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser)
    parser.add_argument(
        "--fix", metavar="DIR", help="write a mended copy of the data there, and check the copy"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        cfg = cli.load_config(args)
        from gfnet_dense.datasets.fixing.copy import format_plan, plan_copy, write_copy
        from gfnet_dense.datasets.survey.report import MAX_FILES, MAX_GROUPS, format_report
        from gfnet_dense.datasets.survey.survey import survey
        from gfnet_dense.utils.config_options import merge_options
        from gfnet_dense.visualization.data_sheet import draw_data_sheet

        if args.fix is not None:
            plan = plan_copy(cfg, Path(args.fix))
            print(format_plan(plan, MAX_GROUPS, MAX_FILES))
            if plan.mended:
                write_copy(plan, format_plan(plan) + "\n")
                merge_options(cfg, plan.options)
        reports = survey(cfg)
        whole, short = format_report(reports), format_report(reports, MAX_GROUPS, MAX_FILES)
        print(short)
        if short != whole:
            path = Path(cfg.work_dir) / "dataset_report.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(whole + "\n")
            print(f"\nall of it: {path}")
        for report in reports:
            path = Path(cfg.work_dir) / f"dataset_{report.split.replace(', ', '_')}.png"
            if draw_data_sheet(report, path):
                print(f"contact sheet: {path}")
        sys.exit(any(report.errors for report in reports))


if __name__ == "__main__":
    main()
