"""Label maps of all kinds in the datasets of mmsegmentation: read right, or refused."""

import warnings

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from PIL import Image

from gfnet_dense.datasets.loading_guards import class_indices, guard_pipeline
from gfnet_dense.utils.errors import InputError
from tests.image_files import SIDES, count_opens, exif, netpbm, pillow, png, shown, tiff

H, W = 6, 8
rng = np.random.default_rng(0)
MAP = rng.integers(0, 4, (H, W), dtype=np.uint8)
MAP[0, :4] = range(4)
TWO = MAP % 2
WIDE = MAP.astype(np.uint16)
CLASSES = ("wall", "floor", "sky", "car")


def palette(kind):
    image = Image.fromarray(MAP).convert("P")
    image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    return pillow(image, kind)


def colors(values):
    return np.stack([values] * 3, axis=2)


# Mode, format, content, expected indices or the words of the refusal
KINDS = [
    ("gray, 8 bits", "PNG", png(MAP), MAP),
    ("gray, 8 bits", "TIFF", tiff(MAP), MAP),
    ("gray, 8 bits", "BMP", pillow(MAP, "BMP"), MAP),
    ("gray, 8 bits", "GIF", pillow(MAP, "GIF"), MAP),
    ("gray, 8 bits", "PGM", netpbm(MAP, 255), MAP),
    ("gray, 8 bits, maximum 3", "PGM", netpbm(MAP, 3), MAP),
    ("gray, 8 bits, maximum 3", "PGM, text", netpbm(MAP, 3, plain=True), MAP),
    ("gray, 4 bits", "PNG", png(MAP, 4), MAP),
    ("gray, 2 bits", "PNG", png(MAP, 2), MAP),
    ("1 bit", "PNG", png(TWO, 1), TWO),
    ("1 bit", "TIFF", pillow(Image.fromarray(TWO > 0), "TIFF"), TWO),
    ("1 bit, white is 1", "PBM", pillow(Image.fromarray(TWO > 0), "PPM"), TWO),
    ("palette, index of the color", "PNG", palette("PNG"), MAP),
    ("palette, index of the color", "GIF", palette("GIF"), MAP),
    ("palette, index of the color", "BMP", palette("BMP"), MAP),
    ("palette, index of the color", "TIFF", palette("TIFF"), MAP),
    ("gray, 16 bits, all values below 256", "PNG", png(WIDE), MAP),
    ("gray, 16 bits, all values below 256", "TIFF", tiff(WIDE, ">"), MAP),
    ("gray, 16 bits, maximum 3000", "PGM", netpbm(WIDE, 3000), MAP),
    ("gray, 32 bits, all values below 256", "TIFF", tiff(WIDE.astype(np.uint32)), MAP),
    ("gray, 16 bits, a value of 256", "PNG", png(np.where(MAP == 3, 256, WIDE)), "is a I;16 image"),
    ("gray, signed, a value of -1", "TIFF", tiff(MAP.astype(np.int16) - 1), "is a I image"),
    ("gray, signed 8 bits", "TIFF", tiff(MAP.astype(np.int8)), "8 bits are signed"),
    ("floats", "TIFF", tiff(MAP.astype(np.float32)), "is a F image"),
    ("gray, white is 0", "TIFF", tiff(MAP, t262=0), "stored inverted"),
    ("gray and alpha", "PNG", png(np.stack([MAP, MAP], 2)), "is a LA image"),
    ("RGB", "PNG", png(colors(MAP)), "is a RGB image"),
    ("RGBA", "PNG", png(np.stack([MAP] * 4, 2)), "is a RGBA image"),
    ("gray", "JPEG", pillow(MAP, "JPEG"), "compression of JPEG changes class indices"),
    ("gray", "JPEG 2000", pillow(MAP, "JPEG2000"), "compression of JPEG2000 changes"),
    ("RGB", "WebP", pillow(colors(MAP), "WEBP"), "compression of WEBP changes"),
    ("two pages", "TIFF", tiff([(MAP, {}), (MAP, {})]), "it has 2 pages"),
    ("animated", "GIF", pillow(MAP, "GIF", save_all=True, append_images=[Image.new("L", (W, H))]),
     "it has 2 pages"),
]  # fmt: skip


def dataset(folder, image=None, labels=None, backend="pillow", **settings):
    """Build a guarded dataset of one image and its label map."""
    for name, content in (("images/a.jpg", image), ("labels/a.png", labels)):
        (folder / name).parent.mkdir(exist_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    DefaultScope.get_instance("label_maps", scope_name="mmseg")
    annotations = dict(type="LoadAnnotations", imdecode_backend=backend)
    built = DATASETS.build(
        dict(
            type="BaseSegDataset",
            data_root=str(folder),
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            pipeline=[dict(type="LoadImageFromFile"), annotations],
            metainfo=dict(classes=CLASSES),
            _scope_="mmseg",
        )
        | settings
    )
    guard_pipeline(built)
    return built


IMAGE = png(colors(MAP * 60))


def test_each_kind_of_label_map_is_read_right_or_refused(tmp_path, check_table):
    rows = [("mode", "format", "what happens")]
    datasets = [dataset(tmp_path, IMAGE, png(MAP), backend) for backend in ("pillow", "cv2")]
    for mode, kind, content, expected in KINDS:
        (tmp_path / "labels" / "a.png").write_bytes(content)
        for built in datasets:
            if isinstance(expected, str):
                with pytest.raises(InputError, match=expected) as error:
                    built[0]
                assert "labels/a.png" in str(error.value)
            else:
                found = built[0]["gt_seg_map"]
                assert found.dtype == np.uint8 and found.flags.writeable, (mode, kind)
                assert np.array_equal(found, expected), (mode, kind)
        rows.append((mode, kind, f"refused: {expected}" if isinstance(expected, str) else "read"))
    check_table("label maps", rows)


@pytest.mark.parametrize("reduce_zero_label", [False, True])
@pytest.mark.parametrize("label_map", [None, {0: 255, 1: 0, 3: 1}, {0: 1, 1: 0, 255: 2, 300: 5}])
def test_indices_are_those_of_mmsegmentation(tmp_path, reduce_zero_label, label_map):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "a.png").write_bytes(png(every))
    results = dict(
        seg_map_path=str(tmp_path / "a.png"), seg_fields=[], label_map=label_map,
        reduce_zero_label=reduce_zero_label,
    )  # fmt: skip
    expected = LoadAnnotations()(results)["gt_seg_map"]
    assert np.array_equal(class_indices(every, reduce_zero_label, label_map), expected)


@pytest.mark.parametrize("settings", [
    {}, dict(reduce_zero_label=True), dict(metainfo=dict(classes=("sky", "wall"))),
    dict(metainfo=dict(classes=("sky", "wall")), reduce_zero_label=True),
])  # fmt: skip
def test_a_dataset_gives_what_it_gives_without_the_guard(tmp_path, settings):
    kind = type("Fixed", (DATASETS.get("BaseSegDataset"),), {"METAINFO": dict(classes=CLASSES)})
    DATASETS.register_module(name="FixedClasses", module=kind, force=True)
    labels = png(np.where(MAP == 3, 255, MAP).astype(np.uint8))
    built = dataset(tmp_path, IMAGE, labels, type="FixedClasses", **{"metainfo": None} | settings)
    image, annotations = built.pipeline.transforms
    stock = annotations.transform(image.transform(built.get_data_info(0)))
    guarded = built[0]
    assert guarded.keys() == stock.keys()
    for key in ("img", "gt_seg_map"):
        assert guarded[key].dtype == stock[key].dtype and np.array_equal(guarded[key], stock[key])
    assert guarded["seg_fields"] == stock["seg_fields"] == ["gt_seg_map"]
    assert guarded["ori_shape"] == stock["ori_shape"] and guarded["img_shape"] == stock["img_shape"]


def test_reduce_zero_label_of_dataset_and_transform_must_agree(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        annotations = dict(type="LoadAnnotations", reduce_zero_label=True)
        pipeline = [dict(type="LoadImageFromFile"), annotations]
        built = dataset(tmp_path, IMAGE, png(MAP), pipeline=pipeline)
    with pytest.raises(InputError, match="reduce_zero_label is True in LoadAnnotations and False"):
        built[0]


def test_image_and_label_map_are_turned_each_by_its_own_tag(tmp_path):
    built = dataset(tmp_path, IMAGE, png(MAP))
    for orientation in SIDES:
        image = pillow(colors(MAP * 60), "PNG", exif=exif(orientation))
        (tmp_path / "images" / "a.jpg").write_bytes(image)
        for labels in (png(MAP, orientation=orientation), tiff(MAP, t274=orientation)):
            (tmp_path / "labels" / "a.png").write_bytes(labels)
            sample = built[0]
            assert np.array_equal(sample["gt_seg_map"], shown(MAP, orientation))
            assert np.array_equal(sample["img"], colors(shown(MAP * 60, orientation)))
            assert sample.get("exif_orientation", 1) == orientation


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_error_for_a_turned_image_names_the_tag(tmp_path, orientation):
    built = dataset(tmp_path, pillow(colors(MAP), "PNG", exif=exif(orientation)), png(MAP))
    message = f"same size, and the image is turned by its EXIF orientation {orientation}$"
    with pytest.raises(InputError, match=message):
        built[0]
    (tmp_path / "labels" / "a.png").write_bytes(png(MAP[:3]))
    with pytest.raises(InputError, match="same size$"):  # for another reason
        built[0]
    (tmp_path / "labels" / "a.png").write_bytes(png(shown(MAP, orientation)))
    assert np.array_equal(built[0]["gt_seg_map"], shown(MAP, orientation))


def test_image_and_label_map_are_opened_once(tmp_path):
    built = dataset(tmp_path, IMAGE, png(MAP))
    paths = [tmp_path / "images" / "a.jpg", tmp_path / "labels" / "a.png"]
    assert count_opens(paths, lambda: built[0]) == [1, 1]


class OwnColors(LoadAnnotations):
    """A user's transform that takes class indices from the red channel."""

    def _load_seg_map(self, results):
        with Image.open(results["seg_map_path"]) as image:
            results["gt_seg_map"] = np.array(image)[..., 0]
        results["seg_fields"].append("gt_seg_map")


def test_a_transform_of_the_users_own_keeps_its_decoding(tmp_path):
    built = dataset(tmp_path, IMAGE, png(colors(MAP)))
    built.pipeline.transforms[1] = OwnColors()
    guard_pipeline(built)
    assert np.array_equal(built[0]["gt_seg_map"], MAP)
    (tmp_path / "labels" / "a.png").write_bytes(png(colors(MAP + 4)))
    with pytest.raises(InputError, match="holds the index 4, accepted are 0..3"):
        built[0]
    (tmp_path / "labels" / "a.png").write_bytes(png(MAP))
    with pytest.raises(IndexError):  # an error of its own keeps its traceback
        built[0]


def test_the_ignore_index_of_the_head_is_allowed_beside_255(tmp_path):
    """CamVid, for one, has 11 classes and the label 11 for all else."""
    built = dataset(tmp_path, IMAGE, png(MAP))
    stored = MAP.copy()
    stored[0, :2] = (len(CLASSES), 255)
    (tmp_path / "labels" / "a.png").write_bytes(png(stored))
    with pytest.raises(InputError, match=f"holds the index {len(CLASSES)}, .* and 255 for what"):
        built[0]
    built = DATASETS.build(dict(type="BaseSegDataset", data_root=str(tmp_path), _scope_="mmseg",
        data_prefix=dict(img_path="images", seg_map_path="labels"),
        pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")],
        metainfo=dict(classes=CLASSES)))  # fmt: skip
    guard_pipeline(built, ignored=len(CLASSES))
    assert np.array_equal(built[0]["gt_seg_map"], stored)
    (tmp_path / "labels" / "a.png").write_bytes(png(np.maximum(stored, len(CLASSES) + 1)))
    with pytest.raises(InputError, match=f"and {len(CLASSES)} for what is not labeled"):
        built[0]
