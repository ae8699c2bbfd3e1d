import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.datasets.synthetic.near_infrared import draw_four_bands
from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene


def test_the_colors_labels_and_instances_are_those_of_the_scene():
    four, three = draw_four_bands(3), draw_scene(3)
    assert four.image.dtype == np.uint8 and four.image.shape == (192, 256, 4)
    assert np.array_equal(four.image[..., :3], three.image)
    assert np.array_equal(four.labels, three.labels)
    assert len(four.instances) == len(three.instances)


def test_vegetation_is_bright_water_and_sky_are_dark():
    means = {name: [] for name in ADE_INDEX}
    for seed in range(12):
        scene = draw_four_bands(seed)
        for name, index in ADE_INDEX.items():
            if (scene.labels == index).sum() > 200:
                red, _, _, infrared = scene.image[scene.labels == index].mean(0)
                means[name].append((red, infrared))
    ratio = {name: np.mean([i / r for r, i in each]) for name, each in means.items() if each}
    assert min(ratio["tree"], ratio["grass"]) > 1.5
    assert max(ratio["water"], ratio["sky"]) < 0.8 and ratio["water"] < 0.3
    assert 0.8 < ratio["road"] < 1.3 and 0.8 < ratio["building"] < 1.3


@pytest.mark.parametrize("write, folder", [
    (writers.write_ade20k, "images/training"), (writers.write_coco, "train2017"),
])  # fmt: skip
def test_scenes_of_four_bands_are_written_without_loss(write, folder, tmp_path, monkeypatch):
    if write is writers.write_coco:
        pytest.importorskip("pycocotools")
    monkeypatch.setattr(writers, "NUM_IMAGES", {"training": 1, "validation": 1})
    monkeypatch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 1, "val2017": 1})
    root = write(tmp_path, draw=draw_four_bands)
    (path,) = (root / folder).glob("*.png")
    assert np.array_equal(np.asarray(Image.open(path)), draw_four_bands(0).image)
    if write is writers.write_coco:
        assert path.name in (root / "annotations" / "instances_train2017.json").read_text()
