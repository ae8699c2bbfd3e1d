"""The check of a sample of images before a training."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

from gfnet_dense.datasets.checks import images as image_checks
from gfnet_dense.datasets.checks.images import check_images, is_ambiguous
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.engine.hooks.check_data_hook import CheckDataHook
from gfnet_dense.utils.errors import InputError
from tests.image_files import SIDES, count_opens, exif, pillow, png, tiff

DEEP = np.random.default_rng(0).integers(0, 65536, (6, 8), dtype=np.uint16)
DEEP[0, 0] = 65535
COLOR = np.stack([DEEP] * 3, axis=2)


class Files:
    """A dataset of files in mmengine's form.

    Args:
        contents: Contents of its images.
        labels: Content of the label map of all images, None if there is none.
        metainfo: Its metainfo.
        loading: Settings of LoadImageFromFile.
    """

    def __init__(self, folder, contents, labels=None, metainfo=None, **loading):
        self.metainfo = metainfo or {}
        self.pipeline = SimpleNamespace(transforms=[LoadImageFromFile(**loading)])
        self.infos = []
        for i, content in enumerate(contents):
            (folder / f"{i:03}.png").write_bytes(content)
            self.infos.append(dict(img_path=str(folder / f"{i:03}.png")))
            if labels is not None:
                (folder / "labels.png").write_bytes(labels)
                self.infos[-1]["seg_map_path"] = str(folder / "labels.png")

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, i):
        return dict(self.infos[i])


def checked(*args, **kwargs):
    dataset = Files(*args, **kwargs)
    guard_pipeline(dataset)
    check_images(SimpleNamespace(datasets=[SimpleNamespace(dataset=dataset)]))  # wrappers
    return dataset


@pytest.fixture
def logged(monkeypatch):
    """Texts of the warnings that are logged."""
    texts = []
    monkeypatch.setattr(image_checks, "print_log", lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize("bits, high", [(8, 1023), (10, 1023), (11, 4095), (12, 4095),
                                        (13, 16383), (14, 16383)])  # fmt: skip
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "color"])
def test_sensor_data_are_refused_with_the_likely_range(tmp_path, bits, high, kind):
    values = DEEP >> (16 - bits)
    content = dict(PNG=png, TIFF=tiff, color=lambda v: png(np.stack([v] * 3, 2)))[kind](values)
    message = rf"all of 2 images of 16 bits use at most {bits} .*000.png.*range=\(0, {high}\)\)"
    with pytest.raises(InputError, match=message):
        checked(tmp_path, [content, png(values >> 1)])
    for image_range in ((0, high), (0, 65535)):
        checked(tmp_path, [content, content], metainfo=dict(image_range=image_range))


def test_a_single_image_with_high_bits_shows_that_the_dark_ones_are_dark(tmp_path, logged):
    checked(tmp_path, [png(DEEP >> 4)] * 5 + [png(DEEP >> 1)])
    checked(tmp_path, [png((DEEP >> 8).astype(np.uint8))])  # nothing is expected of 8 bits
    assert not logged


def test_sensor_data_among_images_of_8_bits_are_refused(tmp_path):
    with pytest.raises(InputError, match="all of 1 images of 16 bits use at most 12"):
        checked(tmp_path, [png((DEEP >> 8).astype(np.uint8)), png(DEEP >> 4)])


def test_a_sample_of_many_images_is_opened_once_each(tmp_path):
    dataset = Files(tmp_path, [png((DEEP >> 8).astype(np.uint8))] * 100)
    guard_pipeline(dataset)
    paths = [info["img_path"] for info in dataset.infos]
    opens = count_opens(paths, lambda: check_images(dataset))
    assert sum(opens) == image_checks.SAMPLES and set(opens) == {0, 1}
    assert opens[0] == opens[-1] == 1


def test_a_broken_image_stops_the_check_unless_the_config_skips_such_images(tmp_path):
    contents = [b"?", png(DEEP)]
    with pytest.raises(InputError, match=r"000.png cannot be read as image: it is no image file"):
        checked(tmp_path, contents)
    dataset = checked(tmp_path, contents, ignore_empty=True)
    assert dataset.pipeline.transforms[0](dict(dataset.infos[0])) is None
    assert dataset.pipeline.transforms[0](dict(dataset.infos[1]))["img"].shape == (6, 8, 3)


def test_transforms_with_another_decoding_are_left_to_it(tmp_path):
    dataset = checked(tmp_path, [png(DEEP >> 4)], color_type="unchanged")
    loaded = dataset.pipeline.transforms[0](dict(dataset.infos[0]))
    assert np.array_equal(loaded["img"], DEEP >> 4)
    (tmp_path / "000.png").write_bytes(png(DEEP)[:-20])
    with pytest.raises(InputError, match=r"000.png is damaged or truncated"):
        dataset.pipeline.transforms[0](dict(dataset.infos[0]))


def test_floats_for_the_network_are_the_same_values(tmp_path):
    dataset = checked(tmp_path, [png(COLOR)], to_float32=True)
    image = dataset.pipeline.transforms[0](dict(dataset.infos[0]))["img"]
    assert image.dtype == np.float32 and np.array_equal(image, COLOR >> 8)


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("size", ["square", "not square"])
@pytest.mark.parametrize("tagged", [False, True])
def test_turned_images_whose_label_map_may_not_be_turned(tmp_path, orientation, size, tagged):
    values = (DEEP[:, :6] if size == "square" else DEEP).astype(np.uint8)
    content = png(values, orientation=orientation)
    (tmp_path / "labels.png").write_bytes(png(values, orientation=orientation if tagged else None))
    # A map of a turned image that is not square has another size, unless it is turned, too.
    unknown = orientation in (2, 3, 4) or (orientation in (5, 6, 7, 8) and size == "square")
    assert is_ambiguous(content, str(tmp_path / "labels.png")) == (unknown and not tagged)


def test_one_warning_says_how_many_images_are_turned(tmp_path, logged):
    photo, plain = pillow(COLOR.astype(np.uint8), "PNG", exif=exif(3)), png(DEEP)
    checked(tmp_path, [plain, photo, photo, plain], labels=png(DEEP.astype(np.uint8)))
    (text,) = logged
    assert (
        "001.png is turned by its EXIF orientation 3" in text
        and "(2 of 4 images that were read)" in text
    )
    checked(tmp_path, [photo])  # boxes are checked elsewhere
    checked(tmp_path, [plain], labels=png(DEEP.astype(np.uint8)))
    assert len(logged) == 1


def runner_of(train, val=None, test=None):
    loaders = {
        f"{name}_dataloader": SimpleNamespace(dataset=dataset)
        for name, dataset in (("train", train), ("val", val), ("test", test))
    }
    return SimpleNamespace(val_loop=val, **loaders)


@pytest.mark.parametrize("first, second", [((0, 4095), None), (None, (0, 1)), ((0, 9), (0, 8))])
def test_training_and_evaluation_need_the_same_range(tmp_path, first, second):
    train, other = (
        Files(tmp_path, [png(DEEP)], metainfo=dict(image_range=each) if each else {})
        for each in (first, second)
    )
    with pytest.raises(InputError, match=r"image_range is .* in the metainfo of the training data"):
        CheckDataHook().before_train(runner_of(train, val=other))
    CheckDataHook().before_train(runner_of(train, val=train))
    hook = CheckDataHook()
    checkpoint = dict(meta=dict(dataset_meta=dict(image_range=first and list(first))))
    hook.after_load_checkpoint(None, checkpoint)
    with pytest.raises(InputError, match="set the same in all datasets"):
        hook.before_test(runner_of(None, test=other))
    hook.before_test(runner_of(None, test=train))


def test_before_a_test_dark_images_are_a_warning(tmp_path, monkeypatch):
    texts = []
    module = "gfnet_dense.engine.hooks.check_data_hook.print_log"
    monkeypatch.setattr(module, lambda text, **_: texts.append(text))
    CheckDataHook().before_test(runner_of(None, test=Files(tmp_path, [png(DEEP >> 4)])))
    assert "use at most 12 of their bits" in texts[0]


def test_an_image_range_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"image_range .* such as \(0, 4095\), got \(4095, 0\)"):
        checked(tmp_path, [png(DEEP)], metainfo=dict(image_range=(4095, 0)))
