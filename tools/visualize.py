#!/usr/bin/env python
"""Draw what a backbone has learned, from an ImageNet file or a checkpoint of a model around it:

    python tools/visualize.py filters gfnet://h-tiny
    python tools/visualize.py erf work_dirs/.../iter_160000.pth --size 512x512
    python tools/visualize.py features gfnet://h-tiny --images photo.jpg other.jpg

filters: frequency responses and convolution kernels of every layer. erf: effective receptive field
of each output. features: principal components of each output as colors.
"""

import argparse
from pathlib import Path

from gfnet_dense import cli
from gfnet_dense.utils.errors import InputError


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in (
        ("filters", "frequency responses and convolution kernels of every layer"),
        ("erf", "effective receptive field of each output"),
        ("features", "principal components of each output"),
    ):
        command = commands.add_parser(name, help=help_text)
        cli.add_checkpoint_argument(command, "a file, an address, gfnet://ARCH or hornet://NAME")
        command.add_argument(
            "--out", type=Path, metavar="PNG", help=f"the picture (default: {name}.png)"
        )
        if name == "filters":
            command.add_argument(
                "--channels", type=int, default=8, help="channels of each layer (default: 8)"
            )
            continue
        command.add_argument(
            "--images", nargs="+", type=Path, metavar="FILE", required=name == "features",
            help="images" if name == "features" else "images (default: noise)",
        )  # fmt: skip
        size = "own size of each image" if name == "features" else "512x512"
        command.add_argument(
            "--filter-resize",
            metavar="MODE",
            help="how filters are resized: trigonometric, bilinear, bicubic, spectral_pad "
            "(default: bilinear for hornet://NAME, as its authors trained it, else trigonometric)",
        )
        command.add_argument(
            "--size", metavar="HxW", help=f"size to which images are resized (default: {size})"
        )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        import torch

        from gfnet_dense import load_backbone
        from gfnet_dense.datasets.checks.bands import check_count
        from gfnet_dense.utils.bands import read_bands
        from gfnet_dense.utils.channels import Channels
        from gfnet_dense.utils.images import read_image
        from gfnet_dense.visualization import features, filters, receptive_field

        out = args.out or Path(f"{args.command}.png")
        if out.suffix != ".png":
            raise InputError(f"--out is a PNG file, got {out}")
        published = "bilinear" if args.checkpoint.startswith("hornet://") else "trigonometric"
        mode = getattr(args, "filter_resize", None) or published
        backbone = load_backbone(args.checkpoint, mode)
        name = Path(args.checkpoint).name
        if args.command == "filters":
            if args.channels < 2:
                raise InputError(f"--channels is 2 or more, got {args.channels}")
            filters.draw_filters(backbone, f"Global filters of {name}", out, args.channels)
            print(f"written: {out}")
            return
        size = cli.parse_size(args.size) if args.size else None
        if args.command == "erf":
            size = size or (512, 512)
        channels = Channels(backbone.in_channels)
        read = read_image if channels.count == 3 else read_bands
        images = [read(path) for path in args.images or ()]
        for path, image in zip(args.images or (), images, strict=True):
            check_count(image, str(path), channels)
        if args.command == "erf":
            shape = 4, channels.count, *size
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            inputs = torch.cat([features.normalize(i, size) for i in images]) if images else noise
            fields = receptive_field.receptive_field(backbone, inputs)
            strides = features.strides_of(backbone)
            source = f"{len(images)} images" if images else "noise"
            title = f"Effective receptive field of {name}, {size[0]}x{size[1]}, on {source}"
            receptive_field.draw_receptive_fields(fields, strides, title, out)
        else:
            outputs = []
            with torch.inference_mode():
                for image in images:
                    x = features.normalize(image, size)
                    outputs.append([y[0] for y in backbone(x)])
            strides = features.strides_of(backbone)
            title = f"Principal components of the outputs of {name}"
            pictures = [channels.shown(image) for image in images]
            features.draw_features(pictures, outputs, strides, title, out)
        print(f"written: {out}; filter_resize: {mode}")


if __name__ == "__main__":
    main()
