"""Predictions for files, compared with tools/test.py and mmsegmentation; written results."""

import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import api
from gfnet_dense.apis.inference import predict
from gfnet_dense.apis.inputs import InputFile, find_inputs
from gfnet_dense.apis.predict_files import PredictOptions, predict_files
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image
from gfnet_dense.utils.results import MARKER
from gfnet_dense.visualization.overlays import add_legend, overlay_labels
from tests.commands import error_of, run, tool
from tests.conftest import ROOT, needs_operators

SEG = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
DET = ROOT / "configs" / "mask-rcnn_gfnet-h-ti_coco.py"


def small_model(path):
    """Return the untrained model of a config that the demo has shrunk."""
    cfg = read_config(str(path))
    shrink(cfg)
    torch.manual_seed(0)
    model = api.load_model(cfg, None)
    with torch.no_grad():  # untrained heads predict the same class everywhere
        for name, parameter in model.named_parameters():
            if "conv_seg" in name or "fc_cls" in name:
                parameter.normal_(std=1.0)
    return model


@pytest.fixture(scope="module")
def segmentor():
    return small_model(SEG)


@pytest.fixture(scope="module")
def detector():
    return small_model(DET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data, segmentor):
    """A working directory with demo data and the weights of the segmentor."""
    path = tmp_path_factory.mktemp("infer")
    (path / "data").symlink_to(demo_data)
    torch.save({"state_dict": segmentor.state_dict(), "meta": {}}, path / "weights.pth")
    return path


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_infer_tool_and_api_give_the_label_maps_of_the_test_tool(folder, segmentor):
    options = ["--cfg-options", "test_dataloader.dataset.indices=3"]
    command = tool("test", SEG, "weights.pth", "--demo", "--out", "maps", *options)
    result = run(command, folder)
    assert result.returncode == 0, result.stderr[-3000:]
    maps = sorted((folder / "maps").glob("*.png"))
    (images,) = {p.parent for p in (folder / "data").rglob("validation/*.jpg")}
    photos = [images / f"{path.stem}.jpg" for path in maps]

    command = tool("infer", SEG, "weights.pth", "--demo", "--out-dir", "out")
    result = run([*command, "--device", "cpu", *map(str, photos)], folder)
    assert result.returncode == 0, result.stderr
    assert "3 images in" in result.stdout and "images/s" in result.stdout
    for path, photo, sample in zip(maps, photos, predict(segmentor, photos), strict=True):
        tested = np.asarray(Image.open(path))
        assert len(np.unique(tested)) > 1 and tested.min() >= 1  # 0 is "other" in ADE20K
        written = np.asarray(Image.open(folder / "out" / "labels" / f"{photo.stem}.png"))
        assert np.array_equal(written, tested - 1)
        assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), written)
        assert (folder / "out" / "overlays" / f"{photo.stem}.jpg").exists()


@pytest.mark.parametrize("size", [(90, 130), (40, 33), (64, 200)])
def test_sliding_window_labels_equal_those_of_mmsegmentation(size, segmentor):
    """The image keeps its own resolution."""
    image = noise(*size, 3)
    (sample,) = predict(segmentor, [image], window=(48, 64), stride=(32, 40))
    x = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    x = segmentor.data_preprocessor({"inputs": [x], "data_samples": None}, False)["inputs"]
    old = segmentor.test_cfg
    segmentor.test_cfg = type(old)(mode="slide", crop_size=(48, 64), stride=(32, 40))
    try:
        with torch.no_grad():
            expected = segmentor.slide_inference(x, [dict(img_shape=size, ori_shape=size)])
    finally:
        segmentor.test_cfg = old
    expected = expected[0].argmax(0)
    same = (sample.pred_sem_seg.data[0] == expected).float().mean()
    assert sample.pred_sem_seg.shape == size and same > 0.999


@pytest.mark.parametrize("window", [None, (48, 64)])
def test_predictions_do_not_disable_the_gradients_of_the_caller(window, segmentor):
    """Gradients are enabled between predictions, and a loss can use the predictions."""
    for sample in predict(segmentor, [noise(64, 64, 3)] * 2, window=window):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        weight = torch.ones(1, requires_grad=True)
        (weight * sample.pred_sem_seg.data).sum().backward()  # as pseudo labels for a student


def test_images_of_all_kinds_are_read_as_upright_8_bit_rgb(tmp_path, segmentor):
    """Gray, 16-bit, transparent and rotated images."""
    photo = noise(60, 90, 3)
    Image.fromarray(photo[..., 0]).save(tmp_path / "gray.png")
    cv2.imwrite(str(tmp_path / "deep.png"), photo[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(np.dstack([photo, photo[..., :1]])).save(tmp_path / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "gray.png"), np.stack([photo[..., 0]] * 3, -1))
    assert np.array_equal(read_image(tmp_path / "deep.png"), photo)
    assert np.array_equal(read_image(tmp_path / "transparent.png"), photo)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(photo, -1))
    for sample in predict(segmentor, sorted(tmp_path.iterdir()), batch_size=3):
        assert sample.pred_sem_seg.shape in [(60, 90), (90, 60)]


def test_a_broken_image_is_skipped_and_the_others_are_predicted(folder):
    photos = folder / "photos"
    (photos / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png", "c.png"):
        Image.fromarray(noise(40, 50, 3)).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    command = tool("infer", SEG, "weights.pth", "photos", "--demo", "--out-dir", "partly")
    result = run(command, folder)
    assert "1 of 4 inputs were skipped" in error_of(result)
    assert "skipped: photos/broken.jpg cannot be read as image" in result.stderr
    labels = folder / "partly" / "labels"
    written = {str(p.relative_to(labels)) for p in labels.rglob("*.png")}
    assert written == {"a.png", "deep/b.png", "c.png"}


@needs_operators
def test_too_narrow_images_and_videos_with_undecodable_names_are_skipped(tmp_path, segmentor):
    Image.fromarray(noise(1, 5000, 3)).save(tmp_path / "line.png")
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / "good.png")
    film = tmp_path / os.fsdecode(b"\xff.mp4")
    film.write_bytes(b"no film")
    inputs = find_inputs([str(tmp_path), str(film)]).files
    summary = predict_files(segmentor, inputs, PredictOptions(tmp_path / "out"))
    assert summary.images == 1 and len(summary.skipped) == 2
    assert "line.png is of 5000x1 pixels: one side is more than" in summary.skipped[0]
    assert "is not valid UTF-8, which OpenCV needs for videos: rename it" in summary.skipped[1]


def test_detections_are_written_in_the_coco_format(tmp_path, detector):
    from pycocotools.coco import COCO

    inputs = []
    for i, size in enumerate([(70, 90), (64, 64)]):
        Image.fromarray(noise(*size, 3)).save(tmp_path / f"{i}.png")
        inputs.append(InputFile(tmp_path / f"{i}.png", tmp_path / str(i)))
    inputs = [InputFile(p.path, p.name.relative_to(tmp_path)) for p in inputs]
    summary = predict_files(detector, inputs, PredictOptions(tmp_path / "out", batch_size=2))
    assert summary.images == 2 and not summary.skipped
    coco = COCO(tmp_path / "out" / "results.json")
    assert [image["file_name"] for image in coco.imgs.values()] == ["0.png", "1.png"]
    samples = list(predict(detector, [file.path for file in inputs]))
    assert sum(len(s.pred_instances) for s in samples) > 0
    for image_id, sample in enumerate(samples, 1):
        found = coco.imgToAnns[image_id]
        boxes = sample.pred_instances.bboxes.numpy()
        assert len(found) == len(boxes)
        for annotation, box, mask in zip(found, boxes, sample.pred_instances.masks, strict=True):
            x, y, w, h = annotation["bbox"]
            np.testing.assert_allclose([x, y, x + w, y + h], box, atol=0.02)
            assert np.array_equal(coco.annToMask(annotation), np.asarray(mask))
    assert (tmp_path / "out" / "overlays" / "0.jpg").exists()


def test_overlays_of_videos_are_written_and_broken_videos_are_skipped(tmp_path, segmentor):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(4):
        writer.write(noise(48, 64, 3))
    writer.release()
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    inputs = find_inputs([str(path), str(tmp_path / "broken.mp4")]).files
    summary = predict_files(segmentor, inputs, PredictOptions(tmp_path / "out", batch_size=3))
    assert summary.images == 4
    assert summary.skipped == [f"{tmp_path / 'broken.mp4'} is no video that OpenCV can read"]
    film = cv2.VideoCapture(str(tmp_path / "out" / "overlays" / "film.mp4"))
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 64 and film.get(cv2.CAP_PROP_FPS) == 5
    assert [p.name for p in (tmp_path / "out" / "overlays").glob("[!.]*")] == ["film.mp4"]


def test_overlays_blend_the_image_with_the_colors_of_its_classes():
    image = np.full((1, 4, 3), 100, np.uint8)
    labels = np.array([[0, 1, 1, 7]], np.uint8)
    meta = {"palette": [[200, 0, 0], [0, 200, 0]]}
    overlay = overlay_labels(image, labels, meta, opacity=0.5)
    assert overlay.tolist() == [[[150, 50, 50], [50, 150, 50], [50, 150, 50], [50, 50, 50]]]
    overlay = overlay_labels(image, labels, meta, opacity=0.5, shown=[1])
    assert overlay.tolist() == [[[100] * 3, [50, 150, 50], [50, 150, 50], [100] * 3]]
    deep = labels.astype(np.uint16) + 300
    assert overlay_labels(image, deep, meta, 1.0).max() == 0


def test_legend_is_below_the_image_and_shows_the_colors():
    image = np.zeros((50, 300, 3), np.uint8)
    with_legend = add_legend(image, {"a wall": (250, 10, 20), "sky": (1, 2, 250)})
    assert with_legend.shape[1:] == (300, 3) and np.array_equal(with_legend[:50], image)
    colors = {tuple(map(int, c)) for c in with_legend[50:].reshape(-1, 3)}
    assert {(250, 10, 20), (1, 2, 250), (255, 255, 255)} <= colors
    assert add_legend(image, {}, rows=2).shape == add_legend(image, {"x": (0, 0, 0)}, rows=2).shape


@pytest.mark.parametrize("window", [None, (64, 96)])
def test_predictions_in_bfloat16_have_the_labels_of_float32_but_for_few_pixels(segmentor, window):
    """The head has random weights: classes are closer to each other than in a trained one."""
    small = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)
    image = cv2.resize(small, (180, 120), interpolation=cv2.INTER_CUBIC)
    plain, mixed, again = (
        next(predict(segmentor, [image], window=window, amp=amp)).pred_sem_seg.data
        for amp in (None, "bfloat16", None)
    )
    assert len(plain.unique()) > 2 and torch.equal(again, plain)
    assert 0 < (mixed != plain).float().mean() < 0.03


@needs_operators
def test_detections_in_bfloat16_are_near_those_of_float32(detector):
    image = noise(70, 90, 3)
    plain, mixed = (
        next(predict(detector, [image], amp=amp)).pred_instances for amp in (None, "auto")
    )
    assert len(plain) > 0 and mixed.masks.dtype == plain.masks.dtype
    torch.testing.assert_close(mixed.scores[:5], plain.scores[:5], rtol=0, atol=0.05)


def test_the_infer_tool_predicts_in_bfloat16(folder, segmentor):
    Image.fromarray(noise(40, 50, 3)).save(folder / "half.png")
    command = tool("infer", SEG, "weights.pth", "half.png", "--demo", "--device", "cpu")
    result = run([*command, "--out-dir", "half", "--amp"], folder)
    assert result.returncode == 0, result.stderr
    written = np.asarray(Image.open(folder / "half" / "labels" / "half.png"))
    (expected,) = predict(segmentor, [folder / "half.png"], amp="bfloat16")
    assert np.array_equal(written, expected.pred_sem_seg.data[0].numpy())


def test_a_checkpoint_that_does_not_fit_the_config_is_refused(folder, tmp_path):
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="other.pth does not fit the model of the config"):
        api.load_model(SEG, tmp_path / "other.pth")


@pytest.mark.parametrize(
    "args, message",
    [
        (["--opacity", "2"], "--opacity is between 0 and 1"),
        (["--batch-size", "0"], "--batch-size is 1 or more"),
        (["--stride", "64"], "--stride is for --slide"),
        (["--slide", "64", "--stride", "96"], "at most the window"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
        (["--device", "cpu", "--amp", "float16"], "float16 needs a GPU: on a CPU take bfloat16"),
        (["--classes", "unicorn"], "the model has no class 'unicorn'"),
    ],
)
def test_wrong_arguments_give_an_error_of_one_sentence(args, message, folder):
    Image.fromarray(noise(40, 50, 3)).save(folder / "one.png")
    command = tool("infer", SEG, "weights.pth", "one.png", "--demo", *args)
    assert message in error_of(run(command, folder))
    assert not (folder / "predicted").exists()


def test_an_interrupted_write_leaves_no_files(tmp_path, segmentor, monkeypatch):
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr(
        "gfnet_dense.utils.atomic_write.os.replace", lambda *_: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(OSError):
        predict_files(
            segmentor,
            find_inputs([str(tmp_path / "a.png")]).files,
            PredictOptions(tmp_path / "out"),
        )
    written = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {MARKER}
