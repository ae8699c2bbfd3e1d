#!/usr/bin/env python
"""Segment an image with an exported model: python onnx_infer.py model.onnx photo.jpg [OUT.png]

Only onnxruntime, NumPy and Pillow are needed.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of 8 bits


def main(model: str, photo: str, out: str = "segmented.png") -> None:
    """Write an overlay of the class colors, and print the share of each class."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    classes, palette, (height, width), mean, std = (
        json.loads(meta[key]) for key in ("classes", "palette", "size", "mean", "std")
    )
    if meta["channels"] == "bands":
        sys.exit(f"{model} is for images of {json.loads(meta['bands'])['count']} bands, not photos")
    image = Image.fromarray(read_image(photo, json.loads(meta.get("image_range", "null"))))
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


def read_image(path: str, image_range: list[float] | None = None) -> np.ndarray:
    """Return an image as the model was trained on it: (H, W, 3), uint8, RGB.

    It is turned by its orientation tag, and alpha is dropped. Of 16 bits per channel the upper 8
    are kept, unless the model has an ``image_range``, whose values become 0 and 255.
    """
    data = Path(path).read_bytes()
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        sys.exit(f"{path} is no image that Pillow reads")
    if not is_plain(image, data):
        sys.exit(f"{path} is of a kind that this example does not read, convert it to PNG")
    mode = image.mode
    rawmode = unpacking(image)
    if mode in MODES and ";16" not in rawmode:
        return turned(image, "RGB")
    if mode in MODES:  # Pillow keeps the upper 8 bits; in the other order of bytes, the lower ones
        name, order = rawmode[:-1], rawmode[-1].replace("N", "BL"[sys.byteorder == "little"])
        if name == "LA;16":  # which has no other order: four bytes
            upper, lower, *_ = np.moveaxis(turned(unpacked(data, "RGBA")), 2, 0)
        else:
            upper, lower = (turned(unpacked(data, name + o)) for o in (order, "LB".strip(order)))
        values = (upper.astype(np.uint16) << 8 | lower).reshape(*upper.shape[:2], -1)[..., :3]
    else:
        values = turned(image)[..., None]
    if image_range is not None and np.isfinite(values).all():
        low, high = image_range
        values = np.rint(255 * (values.astype(np.float64) - low) / (high - low)).clip(0, 255)
    elif mode == "F" or (mode == "I" and image.format != "PPM"):
        sys.exit(f"{path} holds NaN, or values of an unknown range: the model has no image_range")
    else:
        values = values >> 8
    return np.repeat(values.astype(np.uint8), 3 // values.shape[2], axis=2)


def is_plain(image: Image.Image, data: bytes) -> bool:
    """Return whether Pillow gives all of an image, with the values that are stored."""
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return False
    if image.mode not in (*MODES, "I;16", "I;16B", "I", "F"):
        return False
    if unpacking(image).startswith(("I;12", "RGBa;16")):
        return False
    if image.format == "JPEG2000":  # of 8 bits, or gray of 16
        return data[data.index(b"\xff\x4f\xff\x51") + 42] == (15 if image.mode == "I;16" else 7)
    if image.format == "PPM":  # of other maxima than 255 and 65535 Pillow scales the values
        arguments = image.tile[0].args
        return image.mode == "F" or not isinstance(arguments, tuple) or arguments[-1] <= 255
    if image.format != "TIFF":
        return True
    tags = image.tag_v2  # https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
    samples, bits, is_signed = tags.get(277, 1), max(tags.get(258, (1,))), 2 in tags.get(339, ())
    if bits > 8 and (tags.get(262) == 0 or tags.get(284) == 2 or image.mode == "CMYK"):
        return False  # inverted, stored in planes, or of a mode without lower bits
    if (bits == 8 and is_signed) or (image.mode == "I" and not is_signed):
        return False
    is_preview, has_alpha = tags.get(254, 0) & 1, tags.get(338) != (0,)
    return not is_preview and (samples in (1, 3, 4) or (samples == 2 and has_alpha))


def unpacking(image: Image.Image) -> str:
    """Return how Pillow will unpack an opened image, such as 'RGB;16B'."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def unpacked(data: bytes, rawmode: str) -> Image.Image:
    """Return an image that Pillow will unpack in another way."""
    image = Image.open(io.BytesIO(data))
    image.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in image.tile
    ]
    return image


def turned(image: Image.Image, mode: str | None = None) -> np.ndarray:
    """Return the array of an image, turned by its orientation tag and converted to a mode."""
    image = ImageOps.exif_transpose(image)
    return np.asarray(image.convert(mode) if mode else image)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
