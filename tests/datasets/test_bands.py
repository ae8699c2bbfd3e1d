import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope
from PIL import Image

from gfnet_dense.datasets.loading_guards import GuardedImage
from gfnet_dense.utils.errors import InputError
from tests.image_files import count_opens

pytest.importorskip("mmseg.datasets")


def write(path, count, dtype=np.uint8):
    image = np.random.default_rng(count).integers(0, 200, (48, 64, count)).astype(dtype)
    np.save(path, image) if path.suffix == ".npy" else Image.fromarray(image).save(path)
    return image


def loader(**settings):
    return TRANSFORMS.build(dict(type="gfnet_dense.LoadImageBands", **settings))


@pytest.mark.parametrize("name, count", [("a.png", 4), ("a.npy", 1), ("a.npy", 13)])
def test_all_bands_are_loaded_in_their_order(name, count, tmp_path):
    image = write(tmp_path / name, count)
    found = loader()(dict(img_path=str(tmp_path / name)))
    assert np.array_equal(found["img"], image) and found["img"].dtype == np.uint8
    assert found["img_shape"] == found["ori_shape"] == (48, 64)


def test_files_of_8_bits_become_floats_if_wanted(tmp_path):
    image = write(tmp_path / "a.npy", 5)
    found = loader(to_float32=True)(dict(img_path=str(tmp_path / "a.npy")))["img"]
    assert found.dtype == np.float32 and np.array_equal(found, image)


def test_a_file_is_opened_once_also_by_the_guard(tmp_path):
    path = tmp_path / "a.npy"
    write(path, 5)
    guarded = GuardedImage(loader(), {})
    assert count_opens([path], lambda: guarded(dict(img_path=str(path)))) == [1]


def test_broken_files_are_named_or_left_out(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0")
    for transform in (loader(), GuardedImage(loader(), {})):
        with pytest.raises(InputError, match="a.npy cannot be read as image"):
            transform(dict(img_path=str(path)))
    assert loader(ignore_empty=True)(dict(img_path=str(path))) is None


@pytest.mark.parametrize("count", [1, 4, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_transforms_of_our_pipelines_take_any_number_of_bands(count, dtype, tmp_path):
    """Resize, crop, flip and pack, in training and in augmented tests."""
    write(tmp_path / "a.npy", count, dtype)
    labels = np.zeros((48, 64), np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    info = dict(
        img_path=str(tmp_path / "a.npy"), seg_map_path=str(tmp_path / "a.png"),
        label_map=None, reduce_zero_label=False, seg_fields=[],
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope("mmseg"):
        pipeline = Compose(
            [
                dict(type="gfnet_dense.LoadImageBands"),
                dict(type="LoadAnnotations"),
                dict(type="RandomResize", scale=(80, 40), ratio_range=(0.5, 2.0), keep_ratio=True),
                dict(type="RandomCrop", crop_size=(16, 16), cat_max_ratio=0.75),
                dict(type="RandomFlip", prob=1.0),
                dict(type="PackSegInputs"),
            ]
        )
    packed = pipeline(info)
    assert packed["inputs"].shape[0] == count and max(packed["inputs"].shape[1:]) <= 16
