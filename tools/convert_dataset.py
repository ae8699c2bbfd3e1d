#!/usr/bin/env python
"""Convert the data set of another program to label maps or to COCO files:

    python tools/convert_dataset.py labeled/ data/my_dataset --to masks
    python tools/convert_dataset.py labeled/ data/my_dataset --to coco --group-by 'camera\\d+'

SOURCE is a folder or file of labelme, CVAT, Pascal VOC, YOLO, VIA or COCO, or of images and masks.
"""

import sys
from pathlib import Path

from gfnet_dense import cli
from gfnet_dense.utils.types import LABEL_FORMATS


def parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="what was labeled")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder of the data set")
    parser.add_argument(
        "--to", choices=("masks", "coco"), required=True, help="mmsegmentation or mmdetection"
    )
    parser.add_argument(
        "--val", type=float, metavar="SHARE",
        help="share of the images for the validation (default: the splits of the source, else 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--group-by", metavar="PATTERN",
        help="regular expression; images whose paths have the same first group stay together",
    )  # fmt: skip
    parser.add_argument(
        "--colors", type=Path, metavar="FILE", help="colors of masks, lines of NAME R G B"
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME",
        help="classes to take, in this order; of masks of class indices, those of 0, 1, ...",
    )  # fmt: skip
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--from", dest="format", choices=LABEL_FORMATS, help="format of a source that holds several"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.datasets.conversion.convert import plan_conversion, write_conversion
        from gfnet_dense.datasets.conversion.report import format_conversion
        from gfnet_dense.datasets.survey.report import MAX_FILES, MAX_GROUPS, format_problems

        plan = plan_conversion(
            args.source, args.out, args.to, args.format, args.images, args.classes, args.colors,
            args.val, args.group_by,
        )  # fmt: skip
        problems = list(dict.fromkeys(plan.source.problems))
        if problems:
            print("\n".join(format_problems(problems, MAX_GROUPS, MAX_FILES)))
            sys.exit(f"error: {len(problems)} problems in {args.source}: nothing is written")
        write_conversion(plan)
        print(format_conversion(plan))


if __name__ == "__main__":
    main()
