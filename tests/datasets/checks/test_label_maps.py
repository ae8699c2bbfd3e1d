"""Label maps that are valid one by one, and wrong in all together."""

import shutil

import numpy as np
import pytest
from mmengine.registry import DATASETS
from mmseg.utils import register_all_modules
from PIL import Image

from gfnet_dense.datasets.checks import images as image_checks
from gfnet_dense.datasets.checks.images import check_images
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.datasets.survey.survey import survey
from tests.small_data import label_config, write_labels, write_maps


@pytest.fixture
def maps(tmp_path):
    register_all_modules()
    write_maps(tmp_path)
    return tmp_path


@pytest.fixture
def warned(maps, monkeypatch):
    """Function that returns what is said before a training, which check_dataset says, too."""
    logged = []
    monkeypatch.setattr(image_checks, "print_log", lambda text, **_: logged.append(text))

    def check(in_survey=True, **settings):
        logged.clear()
        cfg = label_config(maps)
        cfg.train_dataloader.dataset.update(**settings)
        dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, _scope_="mmseg"))
        guard_pipeline(dataset)
        check_images(dataset)
        sentences = [each.sentence for each in survey(cfg)[0].warnings]
        assert not in_survey or all(text in sentences for text in logged)
        return list(logged)

    return check


@pytest.mark.parametrize(
    "values, reduce_zero_label, text",
    [
        ((0, 1, 2), False, None),
        ((0, 2), False, None),
        ((1, 2, 255), False, None),
        ((0, 255), False, "hold 'background' alone, such as {}: 255 means that a pixel is not lab"),
        ((0,), False, "all of 2 label maps that were read hold 'background' alone, such as {}"),
        ((2,), False, "all of 2 label maps that were read hold 'car' alone, such as {}"),
        ((255,), False, "none of 2 label maps that were read has a labeled pixel, as {}: 255 mean"),
        ((0, 1), True, "all of 2 label maps that were read hold 'background' alone, such as {}"),
        ((0, 1, 3), True, None),
    ],
)
def test_label_maps_of_one_class_or_none(maps, warned, values, reduce_zero_label, text):
    for i in (1, 2):
        write_labels(maps / f"labels/train/{i}.png", values=values, seed=i)
    found = warned(reduce_zero_label=reduce_zero_label)
    assert len(found) == (text is not None)
    assert text is None or text.format(maps / "labels/train/1.png") in found[0]


def test_images_that_are_their_own_label_maps(maps, warned):
    shutil.copytree(maps / "labels/train", maps / "images/train", dirs_exist_ok=True)
    (text,) = warned(img_suffix=".png", in_survey=False)[1:]
    assert "label maps and images are the same files" in text
    write_labels(maps / "images/train/1.png", values=(0, 1), seed=9)  # one of two is no sign
    assert len(warned(img_suffix=".png", in_survey=False)) == 1


def test_palettes_in_which_an_index_has_several_colors(maps, warned):
    def write(i, values, colors):
        image = Image.fromarray(np.resize(np.uint8(values), (48, 64)))
        image.putpalette(colors)
        image.save(maps / f"labels/train/{i}.png")

    red, black, blue = (255, 0, 0), (0, 0, 0), (0, 0, 255)
    write(1, [0, 1, 255], [*black, *red])
    write(2, [0, 1, 2], [*black, *red, *blue])
    assert not warned()
    write(2, [0, 2], [*black, *blue, *blue])  # a color that no pixel has
    assert not warned()
    write(2, [0, 1], [*red, *black])  # numbered anew
    (text,) = warned()
    assert f"index 0 is the color {black} in {maps}/labels/train/1.png and {red} in" in text


def test_images_of_another_suffix_are_counted(maps, warned):
    (maps / "images/train/2.jpg").rename(maps / "images/train/2.JPG")
    (text,) = warned(in_survey=False)
    assert f"1 images are not used, such as {maps}/images/train/2.JPG: img_suffix is '.jpg'" in text
    (maps / "train.txt").write_text("1\n")  # a list leaves images out on purpose
    assert not warned(ann_file="train.txt")
