"""Own data on disk: tools/check_dataset.py, and a training on the data."""

import re
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from gfnet_dense.datasets.survey import contents as survey_contents
from gfnet_dense.datasets.survey.survey import survey
from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene
from tests.commands import error_of, run, tool
from tests.conftest import ROOT

CLASSES = ["zebra", *ADE_INDEX]  # no image has a zebra
NUM_IMAGES = {"train": 6, "val": 2}
CONFIG = f"""
_base_ = [{str(ROOT / "configs" / "fpn_gfnet-h-ti_own-data.py")!r}]
own_data = dict(metainfo=dict(classes={CLASSES}))
train_dataloader = dict(dataset=own_data)
val_dataloader = dict(dataset=own_data)
test_dataloader = val_dataloader
model = dict(decode_head=dict(num_classes={len(CLASSES)}))
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A working directory with a config and synthetic scenes in the layout of docs/own_data.md."""
    folder = tmp_path_factory.mktemp("own")
    index = np.zeros(256, np.uint8)
    for name, ade_index in ADE_INDEX.items():
        index[ade_index] = CLASSES.index(name)
    for seed, (split, i) in enumerate((s, i) for s, n in NUM_IMAGES.items() for i in range(n)):
        scene = draw_scene(seed, 96, 128)
        image, labels = (folder / "data/my_dataset" / kind / split for kind in ("images", "labels"))
        image.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(image / f"{i}.jpg")
        Image.fromarray(index[scene.labels]).save(labels / f"{i}.png")
    (folder / "own.py").write_text(CONFIG)
    return folder


@pytest.fixture
def folder(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "own")


def check(folder, *options):
    return run(tool("check_dataset", "own.py", *options), folder)


def statistics_by_numpy(folder, split):
    """Return the share of pixels and the number of images of each class, and the share of 255."""
    maps = [np.array(Image.open(p)) for p in (folder / "data/my_dataset/labels" / split).iterdir()]
    stack = np.stack(maps)
    shares = [np.mean(stack == i) for i in (*range(len(CLASSES)), 255)]
    return shares[:-1], [sum((i in each) for each in maps) for i in range(len(CLASSES))], shares[-1]


def test_clean_folder_has_no_errors_and_a_table_of_its_classes(folder):
    path = folder / "data/my_dataset/labels/train/0.png"
    labels = np.array(Image.open(path))
    labels[:30] = 255
    Image.fromarray(labels).save(path)
    result = check(folder)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert (
        "errors: none" in result.stdout and "train: 6 images\nval, test: 2 images" in result.stdout
    )
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line}
    table = [statistics_by_numpy(folder, split) for split in NUM_IMAGES]
    for i, name in enumerate(CLASSES):
        for (shares, images, _), cells in zip(table, (rows[name][:2], rows[name][2:]), strict=True):
            assert cells == [f"{shares[i]:.2%}", str(images[i] or "never")]
    assert rows["(not"] == ["labeled)", *(f"{ignored:.2%}" for *_, ignored in table)]
    assert table[0][2] > 0.04  # 30 of 96 rows of one of six maps, set to 255 above
    assert rows["zebra"] == ["0.00%", "never"] * 2
    assert re.search(r"no label map of train has a pixel of zebra\n", result.stdout)
    files = sorted(path.name for path in (folder / "work_dirs/own").iterdir())
    assert files == ["dataset_train.png", "dataset_val_test.png"]  # no list was shortened
    assert all(f"contact sheet: work_dirs/own/{name}\n" in result.stdout for name in files)


def test_every_mistake_is_found_in_one_run(folder):
    images, labels = (folder / "data/my_dataset" / kind / "train" for kind in ("images", "labels"))
    (images / "0.jpg").write_bytes((images / "0.jpg").read_bytes()[:1500])
    (labels / "1.png").unlink()
    for i in (2, 3):
        Image.open(images / f"{i}.jpg").save(labels / f"{i}.png")
    Image.fromarray(np.zeros((64, 128), np.uint8)).save(labels / "4.png")
    Image.fromarray(np.full((96, 128), 255, np.uint8)).save(labels / "5.png")
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(labels / "alone.png")
    shutil.copy(images / "5.jpg", images / "other.JPG")
    labels = labels.parent / "val"
    Image.fromarray(np.full((96, 128), len(CLASSES), np.uint8)).save(labels / "0.png")
    Image.fromarray(np.full((96, 128), 300, np.uint16)).save(labels / "1.png")
    result = check(folder, "--cfg-options", "model.decode_head.num_classes=150")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    warnings, errors = result.stdout.split("warnings: ")[1].split("errors: ")
    root = "data/my_dataset"
    assert errors.splitlines() == [
        "8",
        "  model.decode_head.num_classes is 150, but the dataset has 13 classes (zebra, other, "
        "building, ...): set it to 13",
        "  the label map FILE is a RGB image, expected one channel of 8 bits that holds the class "
        "index of each pixel (2 files):",
        f"    {root}/labels/train/2.png",
        f"    {root}/labels/train/3.png",
        *(line for line in errors.splitlines() if "images/train/0.jpg cannot be read" in line),
        f"  the label map {root}/labels/train/1.png does not exist",
        f"  the label map {root}/labels/train/4.png has 128x64 pixels, its image 128x96: they must "
        "be of the same size",
        f"  the label map {root}/labels/val/0.png holds the index 13, accepted are 0..12 (13 "
        "classes) and 255 for what is not labeled",
        f"  the label map {root}/labels/val/1.png is a I;16 image, expected one channel of 8 bits "
        "that holds the class index of each pixel",
    ]
    assert "0.jpg cannot be read as image: image file is truncated" in errors
    assert f"the label map {root}/labels/train/alone.png has no image in {root}" in warnings
    assert f"the image {root}/images/train/other.JPG is not used, img_suffix is '.jpg'" in warnings
    assert f"the label map {root}/labels/train/5.png has no labeled pixel" in warnings


def test_a_long_list_is_printed_in_part_and_written_in_full(folder):
    labels = folder / "data/my_dataset/labels/train"
    for i in range(30):
        Image.fromarray(np.zeros((96, 128), np.uint8)).save(labels / f"alone{i:02}.png")
    result = check(folder)
    assert result.returncode == 0  # only warnings
    assert "and 22 more" in result.stdout and "alone29.png" not in result.stdout
    path = re.search(r"all of it: (\S+)", result.stdout)[1]
    assert all(f"alone{i:02}.png" in (folder / path).read_text() for i in range(30))


def test_an_error_in_one_split_does_not_stop_the_check_of_the_others(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for key, value, message in (
        ("img_suffix", ".png", "no file that ends in '.png', the img_suffix in the config"),
        ("ann_file", "list.txt", "my_dataset/list.txt, ann_file in the config, does not exist"),
        ("metainfo.classes", "road", "needs a list of class names"),
        ("typo", 1, "cannot be built: TypeError: .* argument 'typo'"),
        ("data_prefix.img_path", "no", "my_dataset/no .* does not exist"),
    ):
        cfg = Config.fromfile("own.py")
        cfg.merge_from_dict({f"train_dataloader.dataset.{key}": value})
        train, val = survey(cfg)
        (problem,) = train.errors
        assert re.search(message, problem.sentence) and "\n" not in problem.sentence
        assert val.num_images == 2 and not val.errors


def test_statistics_of_wrapped_datasets_read_by_several_processes(folder, monkeypatch):
    """The datasets have two of 150 classes, and reduce_zero_label leaves index 0 unlabeled."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(survey_contents, "IMAGES_PER_PROCESS", 3)
    (folder / "train.txt").write_text("0\n1\n2\n3\n4\n5\n")
    (folder / "val.txt").write_text("1\n")
    cfg = Config.fromfile("own.py")
    inner = [
        dict(
            type="ADE20KDataset",
            metainfo=dict(classes=["building", "wall"]),  # in another order
            data_root="data/my_dataset",
            data_prefix=dict(img_path=f"images/{split}", seg_map_path=f"labels/{split}"),
            ann_file=f"../../{split}.txt",
            reduce_zero_label=True,
            pipeline=cfg.train_pipeline,
        )
        for split in ("train", "val")
    ]
    concat = dict(type="ConcatDataset", datasets=inner)
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=concat)
    cfg.model.decode_head.num_classes = 2
    cfg.val_dataloader = cfg.test_dataloader = None
    (report,) = survey(cfg)
    assert report.split == "train" and report.num_images == 7 and not report.errors
    files = [*(f"train/{i}" for i in range(6)), "val/1"]
    maps = np.stack(
        [np.array(Image.open(folder / f"data/my_dataset/labels/{f}.png")) for f in files]
    )
    assert report.counts == {"wall": np.sum(maps == 1), "building": np.sum(maps == 2)}
    assert report.ignored == maps.size - report.counts.total()
    assert report.images["wall"] == sum((each == 1).any() for each in maps)


def test_a_config_for_another_library_is_refused(folder):
    error = error_of(check(folder, "--cfg-options", "default_scope=mmengine"))
    assert "of mmsegmentation and mmdetection, this config is for mmengine" in error


def test_training_on_own_data_runs_and_checks_num_classes(folder):
    options = "train_cfg.max_iters=2 train_cfg.val_interval=2 train_dataloader.batch_size=2 "
    options += "model.backbone.init_cfg=None model.backbone.img_size=64 "
    options += "model.data_preprocessor.size=(64,64) default_hooks.logger.interval=1 "
    options += "train_dataloader.dataset.pipeline.2.scale=(256,64) "
    options += "train_dataloader.dataset.pipeline.3.crop_size=(64,64)"
    command = tool("train", "own.py", "--cfg-options", *options.split())
    error = error_of(run([*command, "model.decode_head.num_classes=150"], folder))
    assert error.startswith("error: model.decode_head.num_classes is 150, but the dataset has 13 c")
    assert not (folder / "work_dirs").exists()

    result = run(command, folder)
    assert result.returncode == 0, result.stderr[-3000:]
    losses = re.findall(r"Iter\(train\) \[\d/2\].*?loss: ([\d.]+)", result.stdout)
    assert len(losses) == 2 and all(0 < float(loss) < 20 for loss in losses)
    assert re.search(r"Iter\(val\) \[2/2\].*mIoU", result.stdout)
