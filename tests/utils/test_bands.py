import io
import sys

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.utils.bands import MAX_BANDS, decode_bands, read_bands
from gfnet_dense.utils.errors import InputError
from tests.image_files import exif, pillow, png, shown, tiff

H, W = 5, 7


def values(count, dtype=np.uint8, seed=0):
    high = 2 ** (8 * np.dtype(dtype).itemsize) if np.dtype(dtype).kind == "u" else 100
    return np.random.default_rng(seed).integers(0, high, (H, W, count)).astype(dtype)


def numpy_file(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def bands_tiff(image, planar=False, **tags):
    """Return a TIFF of an array (H, W, bands), none of which is a color."""
    extra = (0,) * (image.shape[2] - 1)  # of unspecified meaning
    return tiff(image, planar=planar, t262=1, t338=extra, **tags)


def check(found, expected):
    expected = expected if expected.ndim == 3 else expected[..., None]
    assert found.dtype == (np.uint8 if expected.dtype == np.uint8 else np.float32)
    assert found.flags.c_contiguous and found.shape == expected.shape
    assert np.array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
def test_a_png_keeps_its_values_and_the_order_of_its_bands(count, dtype):
    image = values(count, dtype)
    check(decode_bands(png(image), "a.png"), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_gray_png_has_one_band(dtype):
    image = values(1, dtype)[..., 0]
    check(decode_bands(png(image), "a.png"), image)


def test_a_gray_png_with_alpha_has_two_bands():
    image = values(2)
    check(decode_bands(png(image, gray_alpha=True), "a.png"), image)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12, 13])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i2", "i4", "f4", ">f8", "f2"])
def test_a_numpy_file_of_any_numbers_is_read(count, order, dtype):
    image = np.asarray(values(count), dtype, order=order)
    check(decode_bands(numpy_file(image), "a.npy"), image)


def test_a_numpy_file_of_two_axes_is_one_band():
    check(decode_bands(numpy_file(values(1)[..., 0]), "a.npy"), values(1))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("count", [2, 4, 5, 13])
def test_a_tiff_of_any_number_of_bands_is_read(count, dtype, planar):
    pytest.importorskip("tifffile")
    image = values(count, dtype)
    check(decode_bands(bands_tiff(image, planar), "a.tif"), image)


def test_a_fourth_band_does_not_change_the_colors_of_a_tiff():
    image = values(4)  # OpenCV would multiply them by it
    check(decode_bands(pillow(image, "TIFF"), "a.tif"), image)
    check(decode_bands(pillow(image, "TIFF", compression="tiff_lzw"), "a.tif"), image)


def test_a_tiff_that_pillow_reads_needs_no_tifffile(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    image = values(4)
    check(decode_bands(pillow(image, "TIFF"), "a.tif"), image)
    with pytest.raises(InputError, match="b.tif cannot be .* needs tifffile .pip install tifffile"):
        decode_bands(bands_tiff(values(5)), "b.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_tags_say(orientation):
    image = values(4)
    data = pillow(image, "PNG", exif=exif(orientation))
    check(decode_bands(data, "a.png"), shown(image, orientation))
    pytest.importorskip("tifffile")
    image = values(5)
    check(decode_bands(bands_tiff(image, t274=orientation), "a.tif"), shown(image, orientation))


@pytest.mark.parametrize("mode", ["P", "1", "CMYK"])
def test_images_whose_channels_are_no_bands_are_refused(mode):
    image = Image.fromarray(values(3)).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    with pytest.raises(InputError, match=f"a.x cannot be read as image: the {kind} is of the mode"):
        decode_bands(pillow(image, kind), "a.x")


def test_a_gray_png_of_16_bits_with_alpha_is_refused():
    with pytest.raises(InputError, match="is of the mode .*: write its bands as TIFF, or as a"):
        decode_bands(png(values(2, np.uint16), gray_alpha=True), "a.png")


@pytest.mark.parametrize(
    "array, match",
    [
        (np.zeros((2, 2, 2, 2)), r"of float64 and \(2, 2, 2, 2\), not numbers of \(H, W, bands\)"),
        (np.zeros(4), r"of float64 and \(4,\)"),
        (np.zeros((0, 4, 4)), r"of float64 and \(0, 4, 4\)"),
        (np.zeros((2, 2, 4), bool), "of bool"),
        (np.zeros((2, 2, 4), complex), "of complex128"),
        (np.full((2, 2), "a"), "of <U1"),
        (np.zeros((2, 2), [("a", "u1")]), r"of \[\('a'"),
        (np.zeros((1, 2, MAX_BANDS + 1), np.uint8), "513 bands, 512 are read at most"),
        (np.full((2, 2, 4), np.nan, np.float32), "not finite: write it without NaN and inf"),
        (np.full((2, 2, 4), 1e39), "not finite"),
        (np.array([[None]]), "Python objects, not numbers"),
    ],
)
def test_numpy_files_of_other_content_are_refused(array, match):
    data = numpy_file(array, allow_pickle=True)
    with np.errstate(over="ignore"), pytest.raises(InputError, match=f"a.npy cannot .*{match}"):
        decode_bands(data, "a.npy")


def test_a_numpy_file_that_announces_more_than_it_holds_allocates_nothing():
    data = numpy_file(values(4))
    larger = data.replace(b"(5, 7, 4)", b"(5, 7, 4000000000000000)"[:24].ljust(9), 1)
    cut = len(larger) - len(data)
    larger = larger.replace(b" " * cut + b"\n", b"\n", 1)
    for broken in (larger, data[:-1], data[:40], data[:6], data[:8] + b"\xff" * 40):
        with pytest.raises(InputError, match="a.npy cannot be read as image"):
            decode_bands(broken, "a.npy")


def test_broken_images_are_refused():
    whole = bands_tiff(values(5))
    for data in (png(values(4))[:-30], whole[:-90], whole[:30], b"II*\0", b""):
        with pytest.raises(InputError, match="a.x (cannot be read as image|is damaged)"):
            decode_bands(data, "a.x")


def test_a_tiff_of_several_pages_is_refused():
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(values(4), photometric="rgb")
        writer.write(values(5), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InputError, match="not one image of some bands"):
        decode_bands(file.getvalue(), "a.tif")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="the image .*none.npy does not exist"):
        read_bands(tmp_path / "none.npy")
