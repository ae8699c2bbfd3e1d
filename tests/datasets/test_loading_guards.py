import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

from gfnet_dense.datasets.checks.datasets import (
    check_classes,
    check_dataset_folders,
    class_names,
)
from gfnet_dense.datasets.checks.segmentation_heads import check_heads
from gfnet_dense.datasets.loading_guards import _guard_transforms, guard_pipeline
from gfnet_dense.utils.errors import InputError
from tests.conftest import needs_operators

CLASSES = ("wall", "floor", "sky")


@pytest.fixture
def folder(tmp_path):
    """One image of 8x6 pixels with its label map, classes 0..2 and 255."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    image = rng.integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "images" / "a.jpg")
    labels = np.array([[0, 1, 2, 255] * 2] * 6, np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    return tmp_path


def dataset(folder, reduce_zero_label=False):
    DefaultScope.get_instance("data_check", scope_name="mmseg")
    built = DATASETS.build(
        dict(
            type="RepeatDataset",
            times=2,
            dataset=dict(
                type="BaseSegDataset",
                metainfo=dict(classes=CLASSES),
                data_root=str(folder),
                data_prefix=dict(img_path="images", seg_map_path="labels"),
                reduce_zero_label=reduce_zero_label,
                pipeline=[
                    dict(type="LoadImageFromFile", imdecode_backend="pillow"),
                    dict(type="LoadAnnotations"),
                ],
            ),
            _scope_="mmseg",
        )
    )
    guard_pipeline(built)
    return built


def test_valid_data_are_loaded_unchanged(folder):
    sample = dataset(folder)[1]
    np.testing.assert_array_equal(sample["gt_seg_map"][0, :4], [0, 1, 2, 255])
    np.testing.assert_array_equal(dataset(folder, True)[0]["gt_seg_map"][0, :4], [255, 0, 1, 255])


def save_map(folder, array, mode=None):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(folder / "labels" / "a.png")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda f: truncate(f / "images/a.jpg"),
            "images/a.jpg cannot be read as image: .*[tT]runc",
        ),
        (lambda f: (f / "images/a.jpg").write_bytes(b"?"), "a.jpg cannot be read as image: it is"),
        (lambda f: (f / "images/a.jpg").write_bytes(b""), "a.jpg cannot be read as image"),
        (lambda f: truncate(f / "labels/a.png"), "labels/a.png cannot be read as label map"),
        (lambda f: (f / "labels/a.png").unlink(), "the label map .*a.png does not exist"),
        (
            lambda f: save_map(f, np.full((6, 8), 3, np.uint8)),
            "a.png holds the index 3, accepted are 0..2 .3 classes. and 255",
        ),
        (lambda f: save_map(f, np.zeros((8, 6), np.uint8)), "has 6x8 pixels, its image 8x6"),
        (lambda f: save_map(f, np.zeros((6, 8, 3), np.uint8)), "is a RGB image, expected one"),
        (lambda f: save_map(f, np.full((6, 8), 256, np.uint16)), "is a I;16 image, expected one"),
    ],
)
def test_broken_files_are_named_in_an_error_of_one_sentence(folder, spoil, message):
    built = dataset(folder)
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        built[0]
    assert "\n" not in str(error.value)


def test_a_wrong_class_index_is_reported_as_it_is_in_the_file(folder):
    save_map(folder, np.full((6, 8), 4, np.uint8))
    with pytest.raises(InputError, match=r"index 4, accepted are 1..3 \(3 classes\), 0 and 255"):
        dataset(folder, reduce_zero_label=True)[0]


def test_the_error_for_a_missing_dataset_says_where_to_get_it(tmp_path):
    cfg = ConfigDict(
        train_dataloader=dict(
            dataset=dict(
                type="ConcatDataset",
                datasets=[
                    dict(
                        type="ADE20KDataset",
                        data_root=str(tmp_path / "ade"),
                        data_prefix=dict(img_path="images", seg_map_path="labels"),
                    )
                ],
            )
        )
    )
    with pytest.raises(InputError, match="ADE20K was not found: .*/ade/images .* does not exist"):
        check_dataset_folders(cfg, ("train", "val"))
    (tmp_path / "ade" / "images").mkdir(parents=True)
    (tmp_path / "ade" / "images" / "README.txt").touch()
    with pytest.raises(
        InputError, match="/ade/images .* holds no images; get it from http.*zip .*--demo"
    ):
        check_dataset_folders(cfg, ("train",))
    check_dataset_folders(cfg, ("test",))


def test_the_error_for_files_of_another_suffix_names_one_of_them(folder):
    prefix = dict(img_path="images", seg_map_path="labels")
    inner = dict(
        type="BaseSegDataset", data_root=str(folder), data_prefix=prefix, img_suffix=".jpg"
    )
    cfg = ConfigDict(train_dataloader=dict(dataset=inner))
    check_dataset_folders(cfg, ("train",))
    (folder / "images" / "a.jpg").rename(folder / "images" / "a.JPG")
    with pytest.raises(InputError, match="images holds no file that ends in '.jpg', .* but a.JPG"):
        check_dataset_folders(cfg, ("train",))


def test_a_head_for_another_number_of_classes_is_refused():
    own = dict(type="BaseSegDataset", metainfo=dict(classes=["road", "car", "sky", "tree"]))
    ade = dict(type="RepeatDataset", times=2, dataset=dict(type="ADE20KDataset"))
    cfg = ConfigDict(
        default_scope="mmseg",
        model=dict(
            decode_head=[dict(type="FCNHead", num_classes=4)],
            auxiliary_head=dict(type="Mask2FormerHead", num_classes=4),
        ),
        train_dataloader=dict(dataset=own),
        val_dataloader=dict(dataset=ade),
        test_dataloader=None,
    )
    check_classes(cfg, ("train", "test"))
    with pytest.raises(InputError, match="train_dataloader has 4 classes, val_dataloader 150"):
        check_classes(cfg, ("train", "val"))
    with pytest.raises(InputError) as error:
        check_classes(cfg, ("val",))
    assert str(error.value) == (
        "model.decode_head[0].num_classes is 4, but the dataset has 150 classes (wall, building, "
        "sky, ...): set it to 150"
    )
    cfg.model.decode_head[0].num_classes = 150
    cfg.val_dataloader = None
    with pytest.raises(InputError, match=r"decode_head\[0\].num_classes is 150, .* has 4 classes"):
        check_classes(cfg, ("train",))
    cfg.model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))  # mmdet checks detectors itself
    check_classes(cfg, ("train", "val"))


def test_class_names_come_from_the_type_the_config_or_a_file(tmp_path):
    def names(kind="BaseSegDataset", **metainfo):
        return class_names(ConfigDict(type=kind, metainfo=metainfo), "mmseg")

    assert len(names("ADE20KDataset")) == len(names("mmseg.ADE20KDataset")) == 150
    assert names("ADE20KDataset", classes=("sky", "wall")) == ["sky", "wall"]
    assert names(classes=["a", "b"], palette=[[0, 0, 0], [9, 9, 9]]) == ["a", "b"]
    (tmp_path / "classes.txt").write_text("road\nzebra crossing\n")
    assert names(classes=str(tmp_path / "classes.txt")) == ["road", "zebra crossing"]
    for arguments, message in (
        (dict(), "needs a list of class names, .* got None"),
        (dict(classes="road"), "needs a list of class names, .* got 'road'"),
        (dict(classes=["a", "b"], palette=[[0, 0, 0]]), "has 1 colors for 2 classes"),
        (dict(classes=["a", "b", "a"]), "holds 'a' twice"),
        (dict(kind="ADE20KDataset", classes=["crack"]), "no class 'crack'; .*BaseSegDataset"),
        (dict(kind="Foo"), "Foo is no type of dataset that mmseg knows"),
    ):
        with pytest.raises(InputError, match=message):
            names(**arguments)


def test_class_weights_of_mask2former_must_fit_the_number_of_classes():
    head = dict(type="Mask2FormerHead", num_classes=2, loss_cls=dict(class_weight=[1.0] * 3))
    check_heads(dict(decode_head=head), ["a", "b"])
    head["loss_cls"]["class_weight"].append(0.1)
    with pytest.raises(InputError, match=r"has 4 weights.*\[1.0\] \* 2 \+ \[0.1\]"):
        check_heads(dict(decode_head=head), ["a", "b"])


def test_label_maps_of_mmdetection_are_not_checked():
    pytest.importorskip("mmcv._ext")
    from mmdet.datasets.transforms import LoadAnnotations as LoadDetectionAnnotations
    from mmseg.datasets.transforms import LoadAnnotations as LoadSegmentationAnnotations

    transforms = [LoadDetectionAnnotations(with_seg=True), LoadSegmentationAnnotations()]
    _guard_transforms(transforms, dict(classes=["a"]))
    assert [type(t).__name__ for t in transforms] == ["_GuardedInstances", "GuardedSegMap"]


@needs_operators
@pytest.mark.parametrize(
    "instance, message",
    [
        (dict(bbox=[0, 0, 5, float("nan")], mask=[[0, 0, 5, 0, 5, 5]]), "box that is not finite"),
        (dict(bbox=[0, 0, 5, 5], mask=[[0, 0, 5, 0, 5, 1e30]]), "far outside of its image"),
        (dict(bbox=[0, 0, 5, 5], mask=dict(size=[8, 9], counts=[9999])), "do not add up"),
        (dict(bbox="x", mask=[[0, 0, 5, 0, 5, 5]]), "ValueError"),
        (dict(bbox=[0, 0, 5, 5]), "KeyError: 'mask'"),
    ],
)
def test_the_error_for_broken_instances_names_the_image(instance, message):
    from mmdet.datasets.transforms import LoadAnnotations as LoadDetectionAnnotations

    transforms = [LoadDetectionAnnotations(with_mask=True)]
    _guard_transforms(transforms, dict(classes=["a"]))
    results = dict(img_path="street.jpg", ori_shape=(8, 9), height=8, width=9)
    results["instances"] = [dict(bbox_label=0, ignore_flag=0) | instance]
    with pytest.raises(InputError, match=f"annotations of street.jpg .*{message}"):
        transforms[0](results)
