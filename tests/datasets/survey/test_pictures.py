"""Headers of pictures."""

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.survey.pictures import read_picture
from gfnet_dense.utils.images import read_image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_size_of_a_picture_is_that_of_its_stored_pixels(suffix, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path, exif=exif)
    picture = read_picture(str(path))
    assert (picture.size, picture.orientation, picture.error) == ((30, 20), orientation, "")
    is_exchanged = read_image(path).shape[:2] == (30, 20)
    assert is_exchanged == (orientation >= 5)
