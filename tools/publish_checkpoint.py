#!/usr/bin/env python
"""Reduce a training checkpoint to a small file to share: weights, classes and config, without its
secrets and the paths of your machine:

    python tools/publish_checkpoint.py work_dirs/.../iter_160000.pth upernet_gfnet-h-ti.safetensors

The first digits of the file's SHA-256 are added to its name. An output without such a suffix is a
folder with weights, config, model card and a picture, which gfnet_dense.from_pretrained loads;
--hub uploads it to the Hugging Face hub as well:

    python tools/publish_checkpoint.py work_dirs/.../iter_160000.pth upernet_gfnet-h-ti \\
        --image photo.jpg --license apache-2.0 --hub USER/NAME
"""

import argparse
from pathlib import Path

from gfnet_dense import cli

# Suffixes of files of weights and of archives; the first two are written, and others told
FILE_SUFFIXES = (".pth", ".safetensors", ".pt", ".ckpt", ".bin", ".pkl", ".onnx", ".zip")


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_checkpoint_argument(parser, "file as saved by tools/train.py")
    parser.add_argument("out", type=Path, help="file to write, *.pth or *.safetensors, or a folder")
    parser.add_argument(
        "--config", help="config of the checkpoint, for a folder (default: the one in its file)"
    )
    parser.add_argument("--image", type=Path, help="image whose prediction a folder shows")
    parser.add_argument("--license", help="license of the weights, such as apache-2.0")
    parser.add_argument("--hub", metavar="USER/NAME", help="upload the folder to this place, too")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.checkpoint.download import fetch
        from gfnet_dense.checkpoint.publish import publish
        from gfnet_dense.utils.errors import InputError

        if args.out.is_dir() or args.out.suffix.lower() not in FILE_SUFFIXES:
            from gfnet_dense.sharing.training import publish_folder

            options = dict(image=args.image, license=args.license, repo_id=args.hub)
            for place in publish_folder(args.checkpoint, args.out, args.config, **options):
                print(f"written: {place}")
            return
        if given := [n for n in ("config", "image", "license", "hub") if getattr(args, n)]:
            suffix = args.out.suffix
            raise InputError(f"--{given[0]} is for a folder: give a name without {suffix}")
        path = fetch(args.checkpoint)
        written = publish(path, args.out)
        before, after = (p.stat().st_size / 1e6 for p in (path, written))
        print(f"written: {written}, {after:.1f} MB of {before:.1f} MB")


if __name__ == "__main__":
    main()
