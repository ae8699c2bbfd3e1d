"""Image files: formats, limits on memory, several pages, and how often a file is opened."""

import os

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.utils import images
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import check_header
from gfnet_dense.utils.images import IMAGE_SUFFIXES, read_image
from tests.image_files import count_opens, exif, netpbm, pillow, png, tiff

RGB = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
OTHER = np.zeros_like(RGB)
# Pillow's name of the format of each suffix, if the names differ
FORMAT_OF = {
    ".j2c": "JPEG2000", ".j2k": "JPEG2000", ".jp2": "JPEG2000", ".jpc": "JPEG2000",
    ".jpf": "JPEG2000", ".jpx": "JPEG2000", ".jfif": "JPEG", ".jpe": "JPEG", ".jpg": "JPEG",
    ".tif": "TIFF", ".apng": "PNG", ".ras": "SUN", ".pgm": "PPM", ".pnm": "PPM", ".pbm": "PPM",
    ".pfm": "PFM",
}  # fmt: skip


def animated(kind, second=OTHER, **options):
    second = Image.fromarray(second)
    return pillow(RGB, kind, save_all=True, append_images=[second], **options)


def sun_raster():
    """Return a Sun raster file of 24 bits, BGR, rows padded to 16 bits (RASTERFILE(5))."""
    head = np.array([0x59A66A95, 10, 6, 24, 6 * 30, 1, 0, 0], ">u4").tobytes()
    return head + RGB[..., ::-1].tobytes()


def content_of(suffix):
    kind = FORMAT_OF.get(suffix, suffix[1:].upper())
    if kind == "PFM":
        return pillow(Image.fromarray(GRAY.astype(np.float32)), "PPM")
    if kind == "SUN":
        return sun_raster()
    if suffix == ".pbm":
        return pillow(Image.fromarray(GRAY > 127), "PPM")
    return pillow(GRAY if suffix == ".pgm" else RGB, kind)


def pages(*more):
    return tiff([(RGB, {}), *more])


SMALL = RGB[::2, ::2]
TOLD = "refused: "
# What the file is, its content, and the words of the refusal, '' if it is read
FILES = [
    ("the content of a PNG in a.jpg", png(RGB), ""),
    ("photo of a phone with a second picture (MPO)", animated("MPO"), ""),
    ("TIFF with a smaller overview", pages((SMALL, dict(t254=1))), ""),
    ("TIFF with a smaller page", pages((SMALL, {})), ""),
    ("TIFF with a mask", pages((GRAY, dict(t254=4))), ""),
    ("TIFF with two pages", pages((OTHER, {})), "it has 2 pages"),
    ("TIFF with a larger second page", tiff([(SMALL, {}), (RGB, {})]), "it has 2 pages"),
    ("raw photo with a preview first", tiff([(SMALL, dict(t254=1))]), "first page is a preview"),
    ("animated GIF", animated("GIF"), "it has 2 pages"),
    ("animated PNG", animated("PNG"), "it has 2 pages"),
    ("animated WebP", animated("WEBP"), "it has 2 pages"),
    ("animated AVIF", animated("AVIF"), "it has 2 pages"),
    ("HEIC", b"\0\0\0\x18ftypheic" + bytes(40), "it is a HEIC file"),
    ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "it is a SVG file"),
    ("SVG with a declaration", b'<?xml version="1.0"?><svg/>', "it is a SVG file"),
    ("OpenEXR", b"v/1\x01" + bytes(40), "it is a OpenEXR file"),
    ("Radiance HDR", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "it is a Radiance HDR file"),
    ("PDF", b"%PDF-1.7\n", "it is a PDF file"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no image file"),
    ("Photoshop", b"8BPS\0\x01" + bytes(40), "it is a Photoshop file"),
    ("DICOM", bytes(128) + b"DICM" + bytes(40), "it is a DICOM file"),
    ("FITS", b"SIMPLE  =                    T", "it is a FITS file"),
    ("NumPy", b"\x93NUMPY\x01\0", "it is a NumPy file"),
    ("text", b"no image", "it is no image file"),
    ("nothing", b"", "it is no image file"),
    ("JPEG, cut", pillow(np.tile(RGB, (9, 9, 1)), "JPEG")[:-400], "truncated"),
    ("PNG, cut", png(RGB)[:-30], "a part is longer than the file"),
    ("TIFF, cut", tiff(RGB)[:60], "TIFF of a kind|cannot be read"),
    ("BMP, cut", pillow(RGB, "BMP")[:-30], "truncated"),
    ("PGM, cut", netpbm(GRAY.astype(np.uint16), 65535)[:-3], "buffer is smaller"),
    ("PGM with a value above its maximum", netpbm(np.full((6, 10), 300), 256), "states 256 at"),
]  # fmt: skip


def test_each_suffix_is_read_and_each_kind_of_file_read_or_refused(tmp_path, check_table):
    rows = [("file", "read")]
    for suffix in sorted(IMAGE_SUFFIXES):
        path = tmp_path / f"a{suffix.upper()}"
        path.write_bytes(content_of(suffix))
        pixels = read_image(path, image_range=(0, 255))
        with Image.open(path) as image:
            assert pixels.shape == (6, 10, 3) and pixels.std() > 10, suffix
            kind = image.format
        rows.append((f"*{suffix}", f"yes ({kind})"))
    path = tmp_path / "a.jpg"
    for name, content, words in FILES:
        path.write_bytes(content)
        if words:
            with pytest.raises(InputError, match=words) as error:
                read_image(path)
            assert str(path) in str(error.value) and "\n" not in str(error.value), name
        else:
            pixels = read_image(path)
            assert np.array_equal(pixels, RGB) or "MPO" in name, name
        rows.append((name, f"refused: {words.partition('|')[0]}" if words else "yes"))
    check_table("image files", rows)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    with pytest.raises(InputError, match=r"the image .*missing.png does not exist"):
        read_image(tmp_path / "missing.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(InputError, match=f"the image .*{name} is not a file"):
            read_image(tmp_path / name)


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path):
    path = tmp_path / "huge.tif"
    with path.open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)  # no space on the disk
    with pytest.raises(InputError, match=r"huge.tif is larger than 4 GiB"):
        read_image(path)


def test_images_of_too_many_pixels_are_refused_before_decoding(tmp_path):
    content = tiff(RGB, t256=20000, t257=20000)
    (tmp_path / "bomb.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"bomb.tif unpacks to 400 million pixels"):
        read_image(tmp_path / "bomb.tif")
    with pytest.raises(InputError, match=r"bomb.tif unpacks to 400 million pixels"):
        check_header(content, "bomb.tif")


def test_small_files_that_would_take_much_memory_are_refused(tmp_path):
    (tmp_path / "blank.tif").write_bytes(tiff(RGB, t256=16000, t257=16000))
    with pytest.raises(InputError, match=r"blank.tif, of .* bytes, .* to 256 million pixels"):
        read_image(tmp_path / "blank.tif")
    Image.new("1", (16000, 16000)).save(tmp_path / "blank.png")
    check_header((tmp_path / "blank.png").read_bytes(), "blank.png")  # an empty mask is valid
    content = png(RGB)
    check_header(content, "a.png")
    place = content.index(b"IDAT")
    forged = content[: place - 4] + b"\x7f\xff\xff\xff" + content[place:]
    for broken in (forged, content[: place + 8]):
        with pytest.raises(InputError, match="a part is longer than the file"):
            check_header(broken, "a.png")


@pytest.mark.parametrize("kind, suffix", [("PNG", ".png"), ("TIFF", ".tif")])
def test_images_above_the_limit_of_pillow_are_read_and_the_limit_stays(
    kind, suffix, tmp_path, monkeypatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # twice as many pixels are its limit
    path = tmp_path / f"a{suffix}"
    path.write_bytes(png(RGB) if kind == "PNG" else tiff(RGB.astype(np.uint16) * 257))
    assert np.array_equal(read_image(path), RGB)
    assert Image.MAX_IMAGE_PIXELS == 20
    path.write_bytes(png(RGB)[:40] + png(RGB)[41:])
    with pytest.raises(InputError):
        read_image(path)
    assert Image.MAX_IMAGE_PIXELS == 20


def test_an_image_is_opened_once(tmp_path):
    for name, content in (("a.png", png(RGB)), ("b.tif", tiff(RGB.astype(np.uint16)))):
        path = tmp_path / name
        path.write_bytes(content)
        assert count_opens([path], lambda path=path: read_image(path)) == [1]
        assert read_image(path).flags.writeable


def test_a_warning_is_logged_for_the_first_dark_image_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_dark_images", [])
    logged = []
    monkeypatch.setattr(images, "print_log", lambda text, **_: logged.append(text))
    (tmp_path / "bright.png").write_bytes(png(GRAY.astype(np.uint16) * 257))
    for name in ("dark.png", "darker.png"):
        (tmp_path / name).write_bytes(png(GRAY.astype(np.uint16) * 16))
    read_image(tmp_path / "bright.png")
    read_image(tmp_path / "dark.png", image_range=(0, 65535))
    assert not logged
    for name in ("dark.png", "darker.png"):
        read_image(tmp_path / name)
    (text,) = logged
    assert "dark.png uses 12 of its 16 bits" in text and "image_range=(0, 4095)" in text


def test_a_turned_image_above_the_limit_of_pillow_is_turned(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    (tmp_path / "a.png").write_bytes(pillow(RGB, "PNG", exif=exif(6)))
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(RGB, -1))
