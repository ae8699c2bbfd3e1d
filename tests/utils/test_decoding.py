"""Images of all modes and depths: every reader gives the same array, the one that NumPy expects."""

import importlib.util
import io
import struct
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from gfnet_dense.apis.inference import predict
from gfnet_dense.datasets.loading_guards import _guard_transforms
from gfnet_dense.utils.decoding import check_image_range, decode_image, scale, used_bits
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import exif_orientation
from gfnet_dense.utils.images import read_image
from tests.apis.test_inference import KnownSegmentor
from tests.conftest import ROOT
from tests.image_files import SIDES, exif, netpbm, pillow, png, shown, tiff

rng = np.random.default_rng(0)
H, W = 6, 10
BYTES = rng.integers(0, 256, (H, W, 4), dtype=np.uint8)
WORDS = rng.integers(0, 65536, (H, W, 4), dtype=np.uint16)
WORDS[0, 0] = 65535
TWELVE = WORDS >> 4
FLOATS = (WORDS[..., 0] / 65535).astype(np.float32)
RGB, GRAY, DEEP = BYTES[..., :3], BYTES[..., 0], WORDS[..., 0]
BITS = GRAY > 127
PALETTE = rng.integers(0, 256, (256, 3), dtype=np.uint8)


def three(gray):
    return np.stack([gray] * 3, axis=2).astype(np.uint8)


def linear(values, low, high):
    """Scale values one by one, in Python."""
    flat = [min(max(round(255 * (float(v) - low) / (high - low)), 0), 255) for v in values.ravel()]
    return np.array(flat, np.uint8).reshape(values.shape)


def palette_image(mode="P"):
    image = Image.fromarray(GRAY).convert("L")
    image.putpalette(PALETTE.tobytes())
    return image.convert(mode)


def blocks(*color):
    """A lossy format keeps an image of one color, but for rounding."""
    return np.broadcast_to(np.array(color, np.uint8), (16, 16, len(color)))


def jpeg2000(values, bits=None):
    """Return a lossless JPEG 2000; of 12 bits with a changed header, and values moved by as much.

    Values are stored minus half of the range (annex G of https://www.itu.int/rec/T-REC-T.800).
    """
    moved = values if bits is None else values.astype(int) + 2**15 - 2 ** (bits - 1)
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    moved = moved.astype(values.dtype)
    moved = moved[..., ::-1] if values.ndim == 3 else moved  # BGR
    data = bytearray(cv2.imencode(".jp2", np.ascontiguousarray(moved), options)[1])
    if bits is not None:
        data[data.index(b"\xff\x4f\xff\x51") + 42] = data[data.index(b"ihdr") + 14] = bits - 1
    return bytes(data)


LARGE = np.kron(WORDS, np.ones((8, 8, 1), np.uint16))  # OpenCV writes no tiny JPEG 2000
LOSSLESS = dict(lossless=True, exact=True)
SHOWN, UPPER, RANGE, REFUSED = "as shown", "upper 8 bits", "image_range", "refused"
# Mode and depth, format, what is read, content, expected array or words of the refusal, image_range
KINDS = [
    ("1 bit", "PNG", SHOWN, png(BITS, 1), three(BITS * 255)),
    ("1 bit", "TIFF", SHOWN, pillow(Image.fromarray(BITS), "TIFF"), three(BITS * 255)),
    ("1 bit", "PBM", SHOWN, pillow(Image.fromarray(BITS), "PPM"), three(BITS * 255)),
    ("gray, 2 bits", "PNG", SHOWN, png(GRAY >> 6, 2), three((GRAY >> 6) * 85)),
    ("gray, 4 bits", "PNG", SHOWN, png(GRAY >> 4, 4), three((GRAY >> 4) * 17)),
    ("gray, 8 bits", "PNG", SHOWN, png(GRAY), three(GRAY)),
    ("gray, 8 bits", "TIFF", SHOWN, tiff(GRAY), three(GRAY)),
    ("gray, 8 bits", "TIFF, white is 0", SHOWN, tiff(GRAY, t262=0), three(255 - GRAY)),
    ("gray, 8 bits", "BMP", SHOWN, pillow(GRAY, "BMP"), three(GRAY)),
    ("gray, 8 bits", "GIF", SHOWN, pillow(GRAY, "GIF"), three(GRAY)),
    ("gray, 8 bits", "PGM", SHOWN, netpbm(GRAY, 255), three(GRAY)),
    ("gray, 8 bits", "PGM, maximum 100", SHOWN,
     netpbm(GRAY % 101, 100), three(linear(GRAY % 101, 0, 100))),
    ("gray, 8 bits", "JPEG 2000", SHOWN,
     jpeg2000(LARGE[..., 0].astype(np.uint8)), three(LARGE[..., 0].astype(np.uint8))),
    ("gray and alpha, 8 bits", "PNG", "color, alpha dropped", png(BYTES[..., :2]), three(GRAY)),
    ("gray and alpha, 8 bits", "TIFF", "color, alpha dropped",
     tiff(BYTES[..., :2], t338=2), three(GRAY)),
    ("gray and a second channel", "TIFF", REFUSED, tiff(BYTES[..., :2], t338=0), "has 2 channels"),
    ("palette", "PNG", SHOWN, pillow(palette_image(), "PNG"), PALETTE[GRAY]),
    ("palette, one color transparent", "PNG", "color, alpha dropped",
     pillow(palette_image(), "PNG", transparency=int(GRAY[0, 0])), PALETTE[GRAY]),
    ("palette, alpha of each color", "PNG", "color, alpha dropped",
     pillow(palette_image(), "PNG", transparency=bytes(range(256))), PALETTE[GRAY]),
    ("palette and alpha", "TIFF", "color, alpha dropped",
     pillow(palette_image("PA"), "TIFF"), PALETTE[GRAY]),
    ("palette", "GIF", SHOWN, pillow(palette_image(), "GIF"), PALETTE[GRAY]),
    ("palette", "BMP", SHOWN, pillow(palette_image(), "BMP"), PALETTE[GRAY]),
    ("RGB, 8 bits", "PNG", SHOWN, png(RGB), RGB),
    ("RGB, 8 bits", "TIFF", SHOWN, tiff(RGB), RGB),
    ("RGB, 8 bits", "TIFF, planes", SHOWN, tiff(RGB, planar=True), RGB),
    ("RGB, 8 bits", "BMP", SHOWN, pillow(RGB, "BMP"), RGB),
    ("RGB, 8 bits", "PPM", SHOWN, netpbm(RGB, 255), RGB),
    ("RGB, 8 bits", "TGA", SHOWN, pillow(RGB, "TGA"), RGB),
    ("RGB, 8 bits", "QOI", SHOWN, pillow(RGB, "QOI"), RGB),
    ("RGB, 8 bits", "WebP", SHOWN, pillow(RGB, "WEBP", **LOSSLESS), RGB),
    ("RGB, 8 bits", "JPEG 2000", SHOWN, pillow(RGB, "JPEG2000"), RGB),
    ("RGB, 8 bits", "JPEG", SHOWN, pillow(blocks(200, 30, 90), "JPEG"), blocks(200, 30, 90)),
    ("gray, 8 bits", "JPEG", SHOWN,
     pillow(blocks(200, 200, 200)[..., 0], "JPEG"), blocks(200, 200, 200)),
    ("RGB, 8 bits", "AVIF", SHOWN, pillow(blocks(200, 30, 90), "AVIF"), blocks(200, 30, 90)),
    ("RGB and padding, 8 bits", "TIFF", SHOWN, tiff(BYTES, t338=0), RGB),
    ("RGBA, 8 bits", "PNG", "color, alpha dropped", png(BYTES), RGB),
    ("RGBA, 8 bits", "TIFF", "color, alpha dropped", tiff(BYTES, t338=2), RGB),
    ("RGBA, 8 bits", "WebP", "color, alpha dropped", pillow(BYTES, "WEBP", **LOSSLESS), RGB),
    ("CMYK", "JPEG", SHOWN,
     pillow(Image.fromarray(blocks(255, 0, 0, 0), "CMYK"), "JPEG"), blocks(0, 255, 255)),
    ("CMYK", "TIFF", SHOWN, tiff(blocks(0, 255, 0, 0), t262=5), blocks(255, 0, 255)),
    ("YCbCr", "TIFF", SHOWN, tiff(blocks(76, 85, 255), t262=6), blocks(255, 0, 0)),
    ("LAB", "TIFF", REFUSED, tiff(RGB, t262=8), "color mode is LAB"),
    ("gray, signed 8 bits", "TIFF", REFUSED, tiff(GRAY.astype(np.int8)), "8 bits are signed"),
    ("5 channels, 8 bits", "TIFF", REFUSED,
     tiff(np.concatenate([RGB, RGB[..., :2]], 2), t338=(0, 0)), "has 5 channels"),
    ("4 channels, not RGB", "TIFF", REFUSED,
     tiff(BYTES, t262=1), "TIFF of a kind that Pillow does not read"),
    ("gray, 12 bits", "TIFF", UPPER, tiff(TWELVE[..., 0], bits=12), three(TWELVE[..., 0] >> 4)),
    ("gray, 12 bits", "TIFF", RANGE,
     tiff(TWELVE[..., 0], bits=12), three(linear(TWELVE[..., 0], 9, 4000)), (9, 4000)),
    ("gray, 12 bits", "PGM, maximum 4095", UPPER,
     netpbm(TWELVE[..., 0], 4095), three(TWELVE[..., 0] >> 4)),
    ("gray, 12 bits", "JPEG 2000", UPPER,
     jpeg2000(LARGE[..., 0] >> 4, 12), three(LARGE[..., 0] >> 8)),
    ("gray, 12 bits", "JPEG 2000", RANGE,
     jpeg2000(LARGE[..., 0] >> 4, 12), three(linear(LARGE[..., 0] >> 4, 0, 2000)), (0, 2000)),
    ("gray, 16 bits", "PNG", UPPER, png(DEEP), three(DEEP >> 8)),
    ("gray, 16 bits", "PNG", RANGE, png(DEEP), three(linear(DEEP, 500, 40000)), (500, 40000)),
    ("gray, 8 bits", "PNG", "as shown, image_range is not for 8 bits",
     png(GRAY), three(GRAY), (500, 40000)),
    ("gray, 16 bits", "TIFF", UPPER, tiff(DEEP), three(DEEP >> 8)),
    ("gray, 16 bits", "TIFF, big-endian", UPPER, tiff(DEEP, ">"), three(DEEP >> 8)),
    ("gray, 16 bits", "TIFF, compressed", RANGE,
     tiff(DEEP, ">", True), three(linear(DEEP, 0, 4095)), (0, 4095)),
    ("gray, 16 bits", "TIFF, white is 0", UPPER, tiff(DEEP, t262=0), three(255 - (DEEP >> 8))),
    ("gray, 16 bits", "TIFF, white is 0", RANGE,
     tiff(DEEP, t262=0), three(255 - linear(DEEP, 0, 4095)), (0, 4095)),
    ("gray, 16 bits", "PGM", UPPER, netpbm(DEEP, 65535), three(DEEP >> 8)),
    ("gray, 16 bits", "PGM, text", RANGE,
     netpbm(DEEP, 65535, True), three(linear(DEEP, 1, 9000)), (1, 9000)),
    ("gray, 16 bits", "JPEG 2000", UPPER, jpeg2000(LARGE[..., 0]), three(LARGE[..., 0] >> 8)),
    ("gray and alpha, 16 bits", "PNG", UPPER, png(WORDS[..., :2]), three(DEEP >> 8)),
    ("gray and alpha, 16 bits", "PNG", RANGE,
     png(WORDS[..., :2]), three(linear(DEEP, -5, 70000)), (-5, 70000)),
    ("gray and alpha, 16 bits", "TIFF", REFUSED,
     tiff(WORDS[..., :2], t338=2), "TIFF of a kind that Pillow does not read"),
    ("RGB, 12 bits", "PPM, maximum 4095", UPPER,
     netpbm(TWELVE[..., :3], 4095), (TWELVE[..., :3] >> 4).astype(np.uint8)),
    ("RGB, 16 bits", "PNG", UPPER, png(WORDS[..., :3]), (WORDS[..., :3] >> 8).astype(np.uint8)),
    ("RGB, 16 bits", "PNG", RANGE, png(WORDS[..., :3]), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGB, 16 bits", "TIFF", RANGE,
     tiff(WORDS[..., :3]), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGB, 16 bits", "TIFF, big-endian", RANGE,
     tiff(WORDS[..., :3], ">"), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGB, 16 bits", "TIFF, compressed", RANGE,
     tiff(WORDS[..., :3], ">", True), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGB, 16 bits", "TIFF, LZW with differences", RANGE,
     cv2.imencode(".tif", WORDS[..., 2::-1])[1].tobytes(), linear(WORDS[..., :3], 9, 9000),
     (9, 9000)),
    ("RGB, 16 bits", "TIFF, planes", REFUSED,
     tiff(WORDS[..., :3], planar=True), "16 bits are stored apart"),
    ("RGB, 16 bits", "PPM", UPPER,
     netpbm(WORDS[..., :3], 65535), (WORDS[..., :3] >> 8).astype(np.uint8)),
    ("RGB, 16 bits", "PPM, text", RANGE,
     netpbm(WORDS[..., :3], 65535, True), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGB, 16 bits", "JPEG 2000", REFUSED,
     jpeg2000(LARGE[..., :3]), "JPEG 2000 of 16 bits per channel"),
    ("RGBA, 16 bits", "PNG", UPPER, png(WORDS), (WORDS[..., :3] >> 8).astype(np.uint8)),
    ("RGBA, 16 bits", "PNG", RANGE, png(WORDS), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGBA, 16 bits", "TIFF", RANGE,
     tiff(WORDS, t338=2), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGB and padding, 16 bits", "TIFF", RANGE,
     tiff(WORDS, t338=0), linear(WORDS[..., :3], 0, 4095), (0, 4095)),
    ("RGBA multiplied by alpha, 16 bits", "TIFF", REFUSED,
     tiff(WORDS, t338=1), "16 bits in the mode RGBa"),
    ("CMYK, 16 bits", "TIFF", REFUSED, tiff(WORDS, t262=5), "16 bits in the mode CMYK"),
    ("gray, signed 16 bits", "TIFF", "refused without image_range",
     tiff(DEEP.view(np.int16)), "holds integers.*image_range"),
    ("gray, signed 16 bits", "TIFF", RANGE,
     tiff(DEEP.view(np.int16)), three(linear(DEEP.view(np.int16), -2000, 2000)), (-2000, 2000)),
    ("gray, 32 bits", "TIFF", "refused without image_range",
     tiff(DEEP.astype(np.uint32)), "holds integers, .*image_range"),
    ("gray, 32 bits", "TIFF", RANGE,
     tiff(DEEP.astype(np.uint32) << 16), three(linear(DEEP, 0, 65536)), (0, 2**32)),
    ("gray, signed 32 bits", "TIFF, big-endian", RANGE,
     tiff(DEEP.astype(np.int32) - 9000, ">"), three(linear(DEEP, 9000, 40000)), (0, 31000)),
    ("gray, floats of 32 bits", "TIFF", "refused without image_range",
     tiff(FLOATS), "holds floats .*image_range"),
    ("gray, floats of 32 bits", "TIFF", RANGE, tiff(FLOATS), three(linear(FLOATS, 0, 1)), (0, 1)),
    ("gray, floats of 32 bits", "PFM", RANGE,
     pillow(Image.fromarray(FLOATS), "PPM"), three(linear(FLOATS, 0, 1)), (0, 1)),
    ("floats with NaN", "TIFF", REFUSED,
     tiff(np.where(BITS, np.nan, FLOATS).astype(np.float32)), "not finite", (0, 1)),
    ("floats with infinity", "TIFF", REFUSED,
     tiff(np.where(BITS, np.inf, FLOATS).astype(np.float32)), "not finite", (0, 1)),
    ("RGB, floats of 32 bits", "TIFF", REFUSED,
     tiff(np.stack([FLOATS] * 3, 2)), "TIFF of a kind that Pillow does not read", (0, 1)),
    ("gray, floats of 64 bits", "TIFF", REFUSED,
     tiff(FLOATS.astype(np.float64)), "TIFF of a kind that Pillow does not read", (0, 1)),
]  # fmt: skip


def from_guard(path, image_range, backend):
    """Load an image as a training does."""
    transforms = [LoadImageFromFile(imdecode_backend=backend)]
    _guard_transforms(transforms, dict(image_range=image_range))
    return transforms[0](dict(img_path=str(path)))["img"][..., ::-1]


def from_predict(path, image_range):
    """Return what the network of ``gfnet_dense.predict`` gets."""
    model = KnownSegmentor()
    model.dataset_meta = dict(image_range=image_range)
    model.encode_decode = model.inference = lambda inputs, metas: (
        model.seen.append(inputs) or torch.zeros(1, 2, *inputs.shape[2:])
    )
    list(predict(model, [path]))
    return model.seen[0][0].permute(1, 2, 0).numpy()[..., ::-1]


READERS = [
    read_image,
    from_predict,
    *(partial(from_guard, backend=backend) for backend in ("cv2", "pillow", "turbojpeg")),
]


@pytest.fixture(scope="module")
def example():
    """The functions of examples/onnx_infer.py."""
    pytest.importorskip("onnxruntime", reason="needs gfnet-dense[export]")
    path = ROOT / "examples" / "onnx_infer.py"
    spec = importlib.util.spec_from_file_location("onnx_infer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_readers_give_the_array_that_numpy_expects(tmp_path, example, check_table):
    rows = [("mode and depth", "format", "read", "by examples/onnx_infer.py")]
    path = tmp_path / "image"  # the suffix does not matter
    for mode, kind, rule, content, expected, *rest in KINDS:
        path.write_bytes(content)
        image_range = rest[0] if rest else None
        what = f"{mode}, {kind}, {image_range}"
        for reader in READERS:
            if isinstance(expected, str):
                with pytest.raises(InputError, match=expected):
                    reader(path, image_range)
                continue
            found = reader(path, image_range)
            assert found.dtype == np.uint8 and found.shape == expected.shape, what
            # Only files with losses are of 16 rows
            tolerance = 4 if len(expected) == 16 else 0
            assert abs(found.astype(int) - expected).max() <= tolerance, what
            assert np.array_equal(found, read_image(path, image_range)), what
        try:
            same = np.array_equal(example.read_image(path, image_range), found)
            assert same and not isinstance(expected, str), what
            of_example = "equal"
        except SystemExit as e:
            assert str(path) in str(e)
            of_example = "refused"
        told = rule if rule != REFUSED else f"refused: {expected}"
        rows.append((mode, kind, told, of_example))
    check_table("image modes", rows)
    assert sum(row[3] == "equal" for row in rows) > 60


def turned_files():
    """Yield name, orientation, content and expected array of images with each orientation."""
    for orientation in SIDES:
        tag = dict(exif=exif(orientation))
        color, deep = shown(RGB, orientation), three(shown(DEEP, orientation) >> 8)
        yield "PNG", orientation, pillow(RGB, "PNG", **tag), color
        yield "PNG, own tag", orientation, png(RGB, orientation=orientation), color
        yield "PNG, gray 16", orientation, png(DEEP, orientation=orientation), deep
        content = png(WORDS[..., :3], orientation=orientation)
        yield "PNG, RGB 16", orientation, content, shown(WORDS[..., :3], orientation) >> 8
        content = png(WORDS[..., :2], orientation=orientation)
        yield "PNG, gray and alpha 16", orientation, content, deep
        yield (
            "PNG, palette",
            orientation,
            pillow(palette_image(), "PNG", **tag),
            shown(PALETTE[GRAY], orientation),
        )
        yield (
            "PNG, 1 bit",
            orientation,
            png(BITS, 1, orientation),
            three(shown(BITS, orientation) * 255),
        )
        yield "TIFF", orientation, tiff(RGB, t274=orientation), color
        yield "TIFF, deflate", orientation, tiff(RGB, compress=True, t274=orientation), color
        yield "TIFF, gray 16", orientation, tiff(DEEP, ">", t274=orientation), deep
        content = tiff(WORDS[..., :3], compress=True, t274=orientation)
        yield "TIFF, RGB 16", orientation, content, shown(WORDS[..., :3], orientation) >> 8
        yield "WebP", orientation, pillow(RGB, "WEBP", **LOSSLESS, **tag), color
        for kind in ("JPEG", "AVIF", "MPO"):
            large = Image.fromarray(np.kron(RGB, np.ones((4, 4, 1), np.uint8)))
            plain = np.asarray(Image.open(io.BytesIO(pillow(large, kind))))
            yield kind, orientation, pillow(large, kind, **tag), shown(plain, orientation)


def test_images_of_each_format_are_turned_by_each_orientation(tmp_path, example):
    path = tmp_path / "image"
    for kind, orientation, content, expected in turned_files():
        decoded = decode_image(content, "image")
        what = f"{kind}, {orientation}"
        assert np.array_equal(decoded.pixels, expected), what
        assert decoded.orientation == exif_orientation(content) == orientation, what
        path.write_bytes(content)
        assert np.array_equal(example.read_image(path), expected), what
        assert np.array_equal(from_guard(path, None, "pillow"), expected), what


@pytest.mark.parametrize("tag", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tag):
    content = pillow(RGB, "PNG", exif=exif(tag))
    assert exif_orientation(content) == 1
    assert np.array_equal(decode_image(content, "image").pixels, RGB)


@pytest.mark.parametrize("damage", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"?" * 30])
def test_broken_tags_turn_nothing(damage):
    content = pillow(blocks(9, 9, 9), "JPEG", exif=exif(6))
    place = content.index(b"Exif\0\0")
    length = struct.unpack(">H", content[place - 2 : place])[0] - 2
    broken = content[:place] + damage.ljust(length, b"\0") + content[place + length :]
    assert exif_orientation(broken) == 1
    assert decode_image(broken, "image").pixels.shape == (16, 16, 3)


def test_orientation_of_no_image_is_that_of_an_image_without_the_tag():
    assert [exif_orientation(content) for content in (b"", b"?", png(RGB)[:30])] == [1, 1, 1]


@pytest.mark.parametrize(
    "given", [(1, 1), (5, 1), (0, float("inf")), (float("nan"), 1), (1,), (1, 2, 3), 5, "09", True]
    + [(0, "5"), (None, 1), (0, 10**400), (False, True)],
)  # fmt: skip
def test_an_image_range_is_two_finite_numbers_in_order(given):
    with pytest.raises(InputError, match="image_range .* is two numbers, .* got"):
        check_image_range(given)


def test_an_image_range_may_be_a_list_as_json_gives_it():
    assert check_image_range([0, 4095]) == (0.0, 4095.0)
    assert check_image_range(np.array([-1.5, 2])) == (-1.5, 2.0)
    assert check_image_range(None) is None


def test_scaling_rounds_and_clips_every_value_of_16_bits():
    values = np.arange(65536, dtype=np.uint16)
    scaled = scale(values, 65535, (1000.0, 5080.0), "a")
    assert scaled[[0, 1000, 1007, 1008, 1009, 5080, 65535]].tolist() == [0, 0, 0, 0, 1, 255, 255]
    assert np.array_equal(scaled, linear(values, 1000, 5080))


@pytest.mark.parametrize("bits", [10, 12, 14, 15, 16])
def test_used_bits_are_those_of_the_largest_value(bits):
    values = np.minimum(DEEP, 2**bits - 1)
    for content in (
        png(values),
        tiff(values, ">"),
        png(np.stack([values // 2, values, values], 2)),
    ):
        assert used_bits(content, "a") == decode_image(content, "a").used_bits == bits
    assert used_bits(png(GRAY), "a") is None
    assert used_bits(tiff(TWELVE[..., 0], bits=12), "a") is None  # its header tells
