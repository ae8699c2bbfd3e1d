"""The orientation tag is taken out of image files, and their pixels stay."""

import io

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.fixing.orientation_tag import without_orientation
from gfnet_dense.utils.image_headers import ORIENTATION, exif_orientation

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def image_file(kind, orientation, pixels=PIXELS, **options):
    file, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "maker"
    Image.fromarray(pixels).save(file, kind, exif=exif, **options)
    return file.getvalue()


def stored_pixels(data):
    """Return the pixels of a file without its tag, by OpenCV's flag to ignore the orientation."""
    cv2 = pytest.importorskip("cv2")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_only_the_tag_changes(kind, orientation):
    data = image_file(kind, orientation)
    assert exif_orientation(data) == orientation
    result = without_orientation(data)
    assert len(result) == len(data)
    changed = sum(a != b for a, b in zip(data, result, strict=True))
    assert 1 <= changed <= (5 if kind == "PNG" else 1)  # the value, and a checksum of 4 bytes
    assert exif_orientation(result) == 1
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert image.size == (8, 6) and image.getexif()[0x010F] == "maker"
        if kind in ("PNG", "TIFF"):
            assert np.array_equal(np.asarray(image), PIXELS)
    if kind != "TIFF":
        assert np.array_equal(stored_pixels(result), stored_pixels(data))


def test_files_without_a_tag_stay():
    for kind in ("JPEG", "PNG", "BMP"):
        file = io.BytesIO()
        Image.fromarray(PIXELS).save(file, kind)
        assert without_orientation(file.getvalue()) == file.getvalue()


def test_a_tag_at_another_place_is_not_taken_out():
    """Pillow reads the orientation from XMP, too."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", xmp=xmp)
    assert exif_orientation(file.getvalue()) == 6
    assert without_orientation(file.getvalue()) is None
