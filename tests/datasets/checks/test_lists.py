"""Checks of the lists of a split's images, against what mmsegmentation makes of their lines."""

import pytest
from mmseg.utils import register_all_modules

from gfnet_dense.datasets.checks import datasets as folder_checks
from gfnet_dense.datasets.checks.datasets import check_dataset_folders, check_folders
from gfnet_dense.datasets.survey.segmentation import build_dataset
from gfnet_dense.datasets.survey.survey import survey
from gfnet_dense.utils.errors import InputError
from tests.small_data import label_config, write_maps


@pytest.fixture
def listed(tmp_path):
    """Function that writes the list of the training, and returns the config."""
    register_all_modules()
    write_maps(tmp_path)

    def write(content, **settings):
        (tmp_path / "train.txt").write_bytes(content)
        cfg = label_config(tmp_path)
        cfg.train_dataloader.dataset.update(ann_file="train.txt", **settings)
        return cfg

    return write


@pytest.mark.parametrize("content", [b"1\n2", b"1\n2\n", b"1\r\n2\r\n", b" 1\t\n2  \n"])
def test_lists_with_any_line_ends_and_spaces_are_read(listed, content):
    dataset = listed(content).train_dataloader.dataset
    check_folders(dataset)
    names = [build_dataset(dataset).get_data_info(i)["img_path"][-5:] for i in range(2)]
    assert names == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "names no image"),
        (b"\n \n", "names no image"),
        (b"1\n\n2\n", "line 2 of the list .*train.txt is empty: remove it"),
        (b"1\n2\n\n", "line 3 of the list .* is empty"),
        (b"\xef\xbb\xbf1\n2\n", "line 1 .* begins with a byte order mark"),
        ("1\n2\n".encode("utf-16"), r"is no text in UTF-8 \(byte 0\)"),
        (b"1\n2\nstra\xdfe\n", r"is no text in UTF-8 \(byte 8\)"),
        (b"/data/1\n", "line 1 .* is an absolute path, /data/1, and .* label map as well"),
        (b"1\n2.jpg\n", "line 2 .* is 2.jpg: give the name without suffix"),
    ],
)
def test_lines_that_name_no_image_are_refused_with_their_number(listed, content, message):
    cfg = listed(content)
    with pytest.raises(InputError, match=message):
        check_dataset_folders(cfg, ("train",))
    (error,) = survey(cfg)[0].errors
    with pytest.raises(InputError, match=message):
        raise InputError(error.sentence)


def test_names_with_the_suffix_are_right_where_none_is_added(listed):
    check_folders(listed(b"1.jpg\n2.jpg\n", img_suffix="").train_dataloader.dataset)


def test_names_that_stand_twice_are_a_warning(listed, monkeypatch):
    logged = []
    monkeypatch.setattr(folder_checks, "print_log", lambda text, **_: logged.append(text))
    check_dataset_folders(listed(b"1\n2\n"), ("train",))
    assert not logged
    cfg = listed(b"1\n2\n1\n1\n")
    check_dataset_folders(cfg, ("train",))
    assert len(logged) == 1 and "holds 1 names more than once, such as 1:" in logged[0]
    train = survey(cfg)[0]
    assert train.num_images == 4 and logged[0] in [each.sentence for each in train.warnings]
