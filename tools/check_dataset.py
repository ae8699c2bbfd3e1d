#!/usr/bin/env python
"""Read every image and annotation of a config's datasets and list all problems:

python tools/check_dataset.py configs/upernet_gfnet_ade20k.py
"""

import argparse
import sys
from pathlib import Path

from gfnet_dense import cli

MAX_GROUPS = 20  # maximum number of different problems on the console
MAX_FILES = 8  # maximum number of files that the console lists for one problem


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        cfg = cli.load_config(args)
        from gfnet_dense.datasets.survey import survey
        from gfnet_dense.datasets.survey_report import format_report

        reports = survey(cfg)
        whole, short = format_report(reports), format_report(reports, MAX_GROUPS, MAX_FILES)
        print(short)
        if short != whole:
            path = Path(cfg.work_dir) / "dataset_report.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(whole + "\n")
            print(f"\nall of it: {path}")
        sys.exit(any(report.errors for report in reports))


if __name__ == "__main__":
    main()
