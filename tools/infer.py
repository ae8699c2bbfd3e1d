#!/usr/bin/env python
"""Predict images, folders, patterns of files and videos with a segmentor or a detector:

    python tools/infer.py CONFIG CHECKPOINT photo.jpg folder/ 'more/*.png' film.mp4 --out-dir out
    python tools/infer.py upernet_hornet-tiny-gf_ade20k photo.jpg       (its authors' weights)
    python tools/infer.py my-model photo.jpg             (a folder of tools/publish_checkpoint.py)

Overlays are written to out/overlays. A segmentor also writes label maps to out/labels (PNG, class
indices from 0, see classes.txt there), a detector out/results.json in COCO's format. Predictions
are the same as in tools/test.py; with --slide, images of any size are segmented at their own
resolution, window by window.
"""

import argparse
import sys
from pathlib import Path

from gfnet_dense import cli
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.program import discard_output


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    cli.add_config_arguments(parser, or_shared=True)
    cli.add_optional_checkpoint_argument(parser, "file of weights, as saved by tools/train.py")
    parser.add_argument("inputs", nargs="+", help="images, folders, patterns of files, videos")
    parser.add_argument("--out-dir", type=Path, default=Path("predicted"), metavar="DIR")
    parser.add_argument(
        "--batch-size", type=int, default=1, help="images, or windows, at once (default: 1)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    cli.add_amp_argument(parser)
    parser.add_argument(
        "--opacity",
        type=float,
        default=0.5,
        help="opacity of colors in overlays, 0..1 (default: 0.5)",
    )
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="draw only these classes")
    parser.add_argument(
        "--slide", metavar="HxW", help="slide a window of this size over the whole image"
    )
    parser.add_argument(
        "--stride", metavar="HxW", help="distance between windows (default: 2/3 of the window)"
    )
    args = parser.parse_args()
    if args.checkpoint is not None:
        args.inputs.insert(0, args.checkpoint)
    with cli.plain_errors():
        args.checkpoint, args.inputs = cli.split_inputs(args.config, args.inputs)
    if not args.inputs:
        parser.error("the following arguments are required: inputs")
    return args


def check(args: argparse.Namespace) -> None:
    """Check the ranges of the arguments, and parse ``--slide`` and ``--stride`` in place.

    Raises:
        InputError: If an argument is out of range.
    """
    if not 0 <= args.opacity <= 1:
        raise InputError(f"--opacity is between 0 and 1, got {args.opacity:g}")
    if args.batch_size < 1:
        raise InputError(f"--batch-size is 1 or more, got {args.batch_size}")
    if args.stride and not args.slide:
        raise InputError("--stride is for --slide, which was not given")
    args.slide = cli.parse_size(args.slide) if args.slide else None
    args.stride = cli.parse_size(args.stride) if args.stride else None
    if args.stride and any(s > w for s, w in zip(args.stride, args.slide, strict=True)):
        raise InputError("--stride is at most the window of --slide, or pixels are left out")


def main() -> None:
    args = parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may be any bytes
    cli.quiet_third_party()
    with cli.plain_errors():
        check(args)
        cfg, load_model = cli.read_model(args)
        import torch

        from gfnet_dense.apis.inputs import find_inputs
        from gfnet_dense.apis.loading import check_device
        from gfnet_dense.apis.predict_files import PredictOptions, predict_files
        from gfnet_dense.apis.reading import loads_bands
        from gfnet_dense.utils.bands import NUMPY_SUFFIX

        inputs = find_inputs(args.inputs, (NUMPY_SUFFIX,) if loads_bands(cfg) else ())
        for sentence in inputs.left_out:
            print(sentence, file=sys.stderr)
        device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_device(device, "--device")
        model = load_model(device)
        options = PredictOptions(
            args.out_dir,
            args.opacity,
            args.classes,
            args.batch_size,
            args.slide,
            args.stride,
            args.amp,
        )
        summary = predict_files(model, inputs.files, options)
        speed = summary.images / summary.seconds
        try:
            print(
                f"{summary.images} images in {summary.seconds:.1f} s, {speed:.2f} images/s; "
                f"results: {args.out_dir}",
                flush=True,
            )
        except BrokenPipeError:  # nobody reads it any more, but all was predicted
            discard_output()
        for note in summary.notes:
            print(f"note: {note}", file=sys.stderr)
        skipped = inputs.unreadable + summary.skipped
        for reason in skipped:
            print(f"skipped: {reason}", file=sys.stderr)
        if skipped:
            count = len(inputs.files) + len(inputs.unreadable)
            sys.exit(f"error: {len(skipped)} of {count} inputs were skipped, or read in part")


if __name__ == "__main__":
    main()
