"""Environment variables that limit caches and image sizes.

The commands set them for their own process; the library does not.
"""

import os

# Maximum numbers of prepared convolutions in the caches of oneDNN and of PyTorch, one for each
# input shape. Both keep 1024 by default. Detectors and whole images rarely see the same shape
# twice, so that memory grows with every image, see docs/reliability.md.
ONEDNN_CACHE = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "64"}
OPENCV_PIXELS = 2**28  # maximum number of pixels of an image; OpenCV's default is 2**30


def limit_onednn_cache() -> None:
    """Limit the memory of prepared convolutions on CPUs; call it before the first convolution.

    Variables that the user has set are kept.
    """
    for name, value in ONEDNN_CACHE.items():
        os.environ.setdefault(name, value)


def limit_opencv_pixels() -> None:
    """Limit the size of the images that OpenCV reads; call it before OpenCV is imported.

    ``gfnet_dense.utils.images`` checks sizes with Pillow. This limit is for formats that Pillow
    does not know. A limit that the user has set is kept.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(OPENCV_PIXELS))
