#!/usr/bin/env python
"""Reduce a training checkpoint to a small file to share: weights, config and classes only:

    python tools/publish_checkpoint.py work_dirs/.../iter_160000.pth upernet_gfnet-h-ti.safetensors

The first digits of the file's SHA-256 are added to its name.
"""

import argparse
from pathlib import Path

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_checkpoint_argument(parser, "file as saved by tools/train.py")
    parser.add_argument("out", type=Path, help="file to write, *.pth or *.safetensors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.checkpoint.download import fetch
        from gfnet_dense.checkpoint.publish import publish

        path = fetch(args.checkpoint)
        written = publish(path, args.out)
        before, after = (p.stat().st_size / 1e6 for p in (path, written))
        print(f"written: {written}, {after:.1f} MB of {before:.1f} MB")


if __name__ == "__main__":
    main()
