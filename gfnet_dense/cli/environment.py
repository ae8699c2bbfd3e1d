"""Environment variables that the commands set for their process; the library sets none."""

import os

# oneDNN, which runs PyTorch's convolutions on CPUs, keeps 1024 prepared convolutions, one for each
# shape, and PyTorch as many of its own around them. Most shapes of detectors and of whole images
# never come again, and memory grows with them: see docs/reliability.md. Numbers of entries.
ONEDNN_CACHE = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "64"}
OPENCV_PIXELS = 2**28  # of one image; OpenCV's own limit is four times that


def limit_onednn_cache() -> None:
    """Bound the memory of prepared convolutions; takes effect before the first convolution."""
    for name, value in ONEDNN_CACHE.items():
        os.environ.setdefault(name, value)


def limit_opencv_pixels() -> None:
    """Bound the size of the images that OpenCV reads; takes effect before OpenCV is imported.

    It is for image formats that Pillow does not know, and whose size no other check can read.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(OPENCV_PIXELS))
