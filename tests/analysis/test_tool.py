"""tools/analyze_errors.py on weights at random: its figures are those that tools/test.py prints."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import api
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from tests.commands import error_of, run, tool
from tests.conftest import ROOT, needs_operators

SEG = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
DET = ROOT / "configs" / "retinanet_gfnet-h-ti_coco.py"
LOADER = ("test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """A working directory with the demo data."""
    path = tmp_path_factory.mktemp("analysis")
    (path / "data").symlink_to(demo_data)
    return path


def weights(folder, config, head):
    """Write weights of a model that predicts different classes; return the name of the file."""
    cfg = read_config(str(config))
    shrink(cfg)
    model = api.load_model(cfg, None)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if head in name:
                parameter.normal_(std=1.0)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / f"{config.stem}.pth")
    return f"{config.stem}.pth"


def analyze(folder, config, checkpoint, *options, arguments=()):
    command = tool("analyze_errors", config, checkpoint, "--demo", *arguments)
    return run([*command, "--cfg-options", *LOADER, *options], folder)


def figures_of(folder, name):
    return json.loads((folder / name / "errors.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def segmentor(folder):
    return weights(folder, SEG, "conv_seg")


def test_segmentation(folder, segmentor):
    result = analyze(folder, SEG, segmentor, arguments=("--worst", "2"))
    assert result.returncode == 0, result.stderr[-3000:]
    out = f"work_dirs/demo/{SEG.stem}/errors"
    assert result.stdout.endswith(f"errors: {out}/index.html\n")
    figures = figures_of(folder, out)
    (printed,) = re.findall(r"mIoU: ([\d.]+)", result.stdout)
    assert round(100 * figures["mIoU"], 2) == float(printed) == figures["reported"]["mIoU"]
    ious = re.findall(r"\| +([a-z]+) +\| +([\d.]+|nan) +\|", result.stdout)
    assert len(ious) == len(figures["classes"]) > 5
    for (name, iou), each in zip(ious, figures["classes"], strict=True):
        own = float("nan") if each["IoU"] is None else 100 * each["IoU"]
        assert name == each["name"]
        assert np.isclose(float(iou), own, atol=0.00501, equal_nan=True)
    labels = (folder / "data" / "demo").rglob("annotations/validation/*.png")
    maps = [np.asarray(Image.open(path)) for path in labels]
    assert figures["images"] == len(maps) == 12
    assert np.sum(figures["confusion"]["counts"]) == sum(int((m > 0).sum()) for m in maps)
    page = (folder / out / "index.html").read_text(encoding="utf-8")
    assert segmentor in page and "--worst 2" in page


def test_several_datasets_and_evaluators_without_ioumetric(folder, segmentor):
    cfg = read_config(str(SEG))
    shrink(cfg)
    dataset = cfg.test_dataloader.dataset
    parts = [dict(dataset, indices=2), dict(dataset, indices=[7, 8, 9])]
    cfg.test_dataloader.dataset = dict(type="ConcatDataset", datasets=parts)
    cfg.test_evaluator = [dict(type="DumpResults", out_file_path="dumped.pkl")]
    cfg.dump(folder / "several.py")
    arguments = ("--out", "listed", "--cfg-options", *LOADER)
    result = run(tool("analyze_errors", "several.py", segmentor, *arguments), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    figures = figures_of(folder, "listed")
    assert figures["images"] == 5
    assert figures["reported"]["mIoU"] == round(100 * figures["mIoU"], 2)  # of an added IoUMetric
    with (folder / "listed" / "images.csv").open(newline="") as file:
        numbers = [re.findall(r"(\d+)\.jpg", row["image"]) for row in csv.DictReader(file)]
    assert [int(number) for (number,) in numbers] == [1, 2, 8, 9, 10]


def test_mistakes_are_told_before_the_model_runs(folder, segmentor):
    (folder / "file").touch()
    for arguments, message in (
        (("--worst", "0"), "a sheet shows 1 to 24 images, got 0"),
        (("--out", "file/out"), "results cannot be written to file/out"),
    ):
        assert message in error_of(analyze(folder, SEG, segmentor, arguments=arguments))
    assert "does not exist" in error_of(analyze(folder, SEG, "missing.pth"))


def test_labels_at_another_size_are_refused(folder, segmentor):
    (folder / "order.py").write_text(
        f"_base_ = {str(SEG)!r}\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'),"
        " dict(type='LoadAnnotations'), dict(type='Resize', scale=(1024, 128), keep_ratio=True),"
        " dict(type='PackSegInputs')]))\n"
    )
    error = error_of(analyze(folder, folder / "order.py", segmentor))
    assert "put LoadAnnotations behind Resize" in error


def test_test_data_without_label_maps_are_refused(folder, segmentor):
    (folder / "unlabeled.py").write_text(
        f"_base_ = {str(SEG)!r}\n"
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'),"
        " dict(type='Resize', scale=(1024, 128), keep_ratio=True), dict(type='PackSegInputs')]))\n"
        "test_evaluator = dict(format_only=True, output_dir='maps')\n"
    )
    error = error_of(analyze(folder, folder / "unlabeled.py", segmentor))
    assert "the test data of the config have no label maps" in error


@needs_operators
def test_detection(folder):
    checkpoint = weights(folder, DET, "retina_cls")
    result = analyze(folder, DET, checkpoint, "test_dataloader.dataset.indices=4",
                     arguments=("--out", "found"))  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    figures = figures_of(folder, "found")
    assert figures["images"] == 4 and figures["bbox"]["false_positives"] > 0
    for theirs, ours in (("mAP", "AP"), ("mAP_50", "AP50"), ("mAP_75", "AP75")):
        (printed,) = re.findall(rf"coco/bbox_{theirs}: ([\d.-]+)", result.stdout)
        assert float(printed) == pytest.approx(figures["bbox"]["stats"][ours], abs=6e-4)
    assert any("were not tested" in text for text in [(folder / "found/index.html").read_text()])
    names = {path.name for path in (folder / "found").iterdir()}
    assert names == {*figures["files"], ".gfnet-dense-results", "index.html"}
