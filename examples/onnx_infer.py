#!/usr/bin/env python
"""Segment an image with an exported model: python onnx_infer.py model.onnx photo.jpg [OUT.png]

Only onnxruntime, NumPy and Pillow are needed.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, photo: str, out: str = "segmented.png") -> None:
    """Write an overlay of the class colors, and print the share of each class."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    classes, palette, (height, width), mean, std = (
        json.loads(meta[key]) for key in ("classes", "palette", "size", "mean", "std")
    )
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    if meta["channels"] == "BGR":
        pixels = pixels[..., ::-1]
    normalized = ((pixels - mean) / std).astype(np.float32).transpose(2, 0, 1)
    (labels,) = session.run(["labels"], {"images": normalized[None]})

    colors = np.asarray(palette, np.uint8)[labels[0]]
    overlay = Image.fromarray(colors).resize(image.size, Image.Resampling.NEAREST)
    Image.blend(image, overlay, 0.6).save(out)
    indices, counts = np.unique(labels, return_counts=True)
    for i in np.argsort(-counts):
        print(f"{counts[i] / labels.size:6.1%}  {classes[indices[i]]}")
    print(f"written: {out}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
