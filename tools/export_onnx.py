#!/usr/bin/env python
"""Export a trained model for runtimes without PyTorch, and check the file against PyTorch:

    python tools/export_onnx.py CONFIG CHECKPOINT --size 512x512 --out model.onnx
    python tools/export_onnx.py upernet_hornet-tiny-gf_ade20k --size 512x512    (authors' weights)

Global filters become products of real matrices, so that the file has no complex numbers and no
Fourier transforms. With --out *.pt2 the format is torch.export's. Segmentors are exported as a
whole, detectors up to the neck, RetinaNet with its head.
"""

import argparse
from pathlib import Path

from gfnet_dense import cli


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser, or_shared=True)
    cli.add_optional_checkpoint_argument(parser, "file to export, as saved by tools/train.py")
    parser.add_argument(
        "--size", required=True, metavar="HxW", help="fixed size of the images, such as 512x512"
    )
    parser.add_argument("--out", type=Path, default=Path("model.onnx"), metavar="FILE")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="maximum relative difference to PyTorch; above, no file is written (default: 1e-4)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        size = cli.parse_size(args.size)
        _, load_model = cli.read_model(args)
        from gfnet_dense.export import check_format, export

        check_format(args.out)
        model = load_model("cpu")
        check = export(model, size, args.out, args.tolerance)
        runtime = "onnxruntime" if args.out.suffix == ".onnx" else "torch.export"
        exported, original = (1e3 * seconds for seconds in check.latency)
        print(
            f"{args.out}: {args.out.stat().st_size / 1e6:.0f} MB; difference to PyTorch "
            f"{check.max_error:.1e} at most, {check.relative_error:.1e} relative; an image takes "
            f"{exported:.0f} ms in {runtime}, {original:.0f} ms in PyTorch"
        )


if __name__ == "__main__":
    main()
