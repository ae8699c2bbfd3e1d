#!/usr/bin/env python
"""Convert a backbone between official names and ours, and its filters to another image size:

python tools/convert_checkpoint.py gfnet://h-tiny gfnet-h-ti-512.safetensors --img-size 512
python tools/convert_checkpoint.py iter_160000.pth gfnet-h-ti.pth --to official --img-size 224
"""

import argparse
from pathlib import Path

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_checkpoint_argument(
        parser, "official file, checkpoint of ours, gfnet://ARCH or hornet://NAME"
    )
    parser.add_argument("out", type=Path, help="file to write, *.pth or *.safetensors")
    parser.add_argument(
        "--to",
        choices=("ours", "official"),
        default="ours",
        help="names of the weights: as in gfnet_dense.GFNet and HorNet (default), or as in the "
        "official files, in which a GFNet has one final norm",
    )
    parser.add_argument(
        "--img-size",
        metavar="HxW",
        help="image size for which global filters, and the position embedding of a GFNet, are "
        "stored (default: as they are)",
    )
    parser.add_argument(
        "--filter-resize",
        default="trigonometric",
        metavar="MODE",
        help="how filters are resized: trigonometric (default), bilinear, bicubic, spectral_pad",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.checkpoint.convert import convert
        from gfnet_dense.checkpoint.download import fetch

        img_size = cli.parse_size(args.img_size) if args.img_size else None
        path = fetch(args.checkpoint)
        print(f"written: {convert(path, args.out, args.to, img_size, args.filter_resize)}")


if __name__ == "__main__":
    main()
