import json

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene
from gfnet_dense.datasets.synthetic.writers import MIN_AREA, write_ade20k, write_coco


@pytest.fixture(params=[write_ade20k, write_coco])
def write(request, monkeypatch):
    """Return a function that writes two scenes for training and one for validation."""
    if request.param is write_coco:
        pytest.importorskip("pycocotools")
    monkeypatch.setattr(writers, "NUM_IMAGES", {"training": 2, "validation": 1})
    monkeypatch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 2, "val2017": 1})
    return request.param


def test_ade20k_files_are_written_in_the_layout_of_the_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "NUM_IMAGES", {"training": 3, "validation": 2})
    root = write_ade20k(tmp_path)
    assert root == tmp_path / "v1" / "ADEChallengeData2016"
    for split, names in {
        "training": [f"ADE_train_{i:08d}" for i in (1, 2, 3)],
        "validation": [f"ADE_val_{i:08d}" for i in (1, 2)],
    }.items():
        assert sorted(p.stem for p in (root / "images" / split).glob("*.jpg")) == names
        assert sorted(p.stem for p in (root / "annotations" / split).glob("*.png")) == names
    labels = np.array(Image.open(root / "annotations/validation/ADE_val_00000002.png"))
    np.testing.assert_array_equal(labels, draw_scene(4).labels)  # seeds 0..2 are for training
    assert set(np.unique(labels)) <= set(ADE_INDEX.values())


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Write four scenes for training (seeds 0..3) and three for validation (4..6)."""
    pytest.importorskip("pycocotools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 4, "val2017": 3})
        return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.mark.parametrize(("split", "seeds"), [("train2017", range(4)), ("val2017", range(4, 7))])
def test_coco_annotations_equal_the_instances_of_the_scenes(coco, split, seeds):
    from pycocotools.coco import COCO

    api = COCO(coco / "annotations" / f"instances_{split}.json")
    names = {1: "person", 3: "car"}  # category ids of COCO
    assert {c["id"]: c["name"] for c in api.loadCats(api.getCatIds())} == names
    assert api.getImgIds() == [i + 1 for i in range(len(seeds))]
    assert len(set(api.getAnnIds())) == len(api.anns) > 0
    num_crowds = 0
    for image_id, seed in enumerate(seeds, start=1):
        scene = draw_scene(seed)
        (image,) = api.loadImgs(image_id)
        with Image.open(coco / split / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == scene.labels.shape[::-1]
            assert np.abs(np.array(picture, int) - scene.image).mean() < 8  # JPEG is lossy
        masks = {
            name: [i.mask for i in scene.instances if i.label == ADE_INDEX[name]]
            for name in names.values()
        }
        annotated = scene.labels * 0
        for annotation in api.loadAnns(api.getAnnIds(image_id)):
            mask = api.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum()
            x, y, w, h = annotation["bbox"]
            rows, columns = np.nonzero(mask)
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
            of_class = masks[names[annotation["category_id"]]]
            if annotation["iscrowd"]:
                num_crowds += 1
                members = [m for m in of_class if m.sum() < MIN_AREA]
                np.testing.assert_array_equal(mask, np.any(members, axis=0))
            else:
                assert sum(np.array_equal(mask, m) for m in of_class) == 1
                assert mask.sum() >= MIN_AREA
            annotated += mask
        # Every instance is annotated, once: crowd regions are disjoint from instances as well.
        np.testing.assert_array_equal(annotated, np.any(sum(masks.values(), []), axis=0))
    assert split == "val2017" or num_crowds > 0


def test_mmdetection_loads_the_coco_files(coco):
    pytest.importorskip("mmcv._ext")
    from mmdet.datasets import CocoDataset

    categories = json.loads((coco / "annotations/instances_val2017.json").read_text())["categories"]
    names = tuple(category["name"] for category in categories)
    assert set(names) <= set(CocoDataset.METAINFO["classes"])
    data = CocoDataset(
        ann_file="annotations/instances_train2017.json",
        data_root=str(coco),
        data_prefix=dict(img="train2017"),
        metainfo=dict(classes=names),
        pipeline=[],
    )
    assert len(data) == 4
    ignored = [i["ignore_flag"] for k in range(4) for i in data.get_data_info(k)["instances"]]
    assert 0 < sum(ignored) < len(ignored)
    first = data.get_data_info(0)
    person = next(i.mask for i in draw_scene(0).instances if i.label == ADE_INDEX["person"])
    rows, columns = np.nonzero(person)
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    found = [i["bbox"] for i in first["instances"] if i["bbox_label"] == names.index("person")]
    assert list(map(float, corners)) in found


def test_data_are_written_once_and_are_the_same_for_the_same_seed(tmp_path, write):
    first, again = write(tmp_path / "a"), write(tmp_path / "b")
    files = sorted(p.relative_to(first) for p in first.rglob("*.*"))
    assert len(files) >= 5
    assert all((first / f).read_bytes() == (again / f).read_bytes() for f in files)
    time = (first / files[0]).stat().st_mtime_ns
    assert write(tmp_path / "a") == first
    assert (first / files[0]).stat().st_mtime_ns == time
    other = write(tmp_path / "c", seed=1)
    assert any((first / f).read_bytes() != (other / f).read_bytes() for f in files)


def test_an_interrupted_writer_leaves_no_files(tmp_path, write, monkeypatch):
    def interrupt(seed):
        if seed == 2:
            raise KeyboardInterrupt
        return draw_scene(seed, 64, 64)

    monkeypatch.setattr(writers, "draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert not list(tmp_path.glob("v1/*")) and not list(tmp_path.glob("v1/.*"))


def test_data_that_another_process_wrote_first_are_kept(tmp_path, write, monkeypatch):
    """All processes of a distributed run write the scenes at the same time."""
    calls = []

    def slow(seed):
        if not calls:
            calls.append(seed)
            write(tmp_path)  # as another process would meanwhile
        return draw_scene(seed, 64, 64)

    monkeypatch.setattr(writers, "draw_scene", slow)
    assert len(list(write(tmp_path).rglob("*.jpg"))) == 3
    assert len(list((tmp_path / "v1").iterdir())) == 1
