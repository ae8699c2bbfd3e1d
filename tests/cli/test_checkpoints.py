"""The word of a command line that is a checkpoint, and the checkpoint where none is given."""

import argparse

import pytest

from gfnet_dense.cli import checkpoint_of, is_checkpoint
from gfnet_dense.utils.errors import InputError

NAME = "upernet_hornet-tiny-gf_ade20k"


@pytest.mark.parametrize(
    "word, expected",
    [
        ("own.pth", True),
        ("missing/own.PTH", True),
        ("own.pth.tar", True),
        ("own.pt", True),
        ("own.ckpt", True),
        ("own.bin", True),
        ("own.safetensors", True),
        ("hornet://tiny-gf", True),
        ("https://a.org/f/0/?dl=1", True),
        ("open-mmlab://resnet50", True),
        ("weights", True),
        ("weights.v2", True),
        ("photo.jpg", False),
        ("PHOTO.TIFF", False),
        ("bands.npy", False),
        ("film.mp4", False),
        ("missing.jpg", False),
        ("missing", False),
        ("folder", False),
        ("folder.pth/photo.png", False),
        ("*.png", False),
        (".", False),
        ("", False),
    ],
)
def test_a_checkpoint_is_told_from_images(word, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("weights", "weights.v2", "photo.jpg", "film.mp4"):
        (tmp_path / name).touch()
    assert is_checkpoint(word) is expected


def test_a_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").touch()
    assert is_checkpoint("~/weights") and not is_checkpoint("~/photos")


def test_the_weights_of_the_authors_are_taken_where_no_checkpoint_is_given():
    given = argparse.Namespace(config=NAME, checkpoint=None, demo=False)
    assert checkpoint_of(given) == "hornet://upernet-tiny-gf-ade20k"
    given.checkpoint = "own.pth"
    assert checkpoint_of(given) == "own.pth"
    given.config = "no_config"  # which is not looked for
    assert checkpoint_of(given) == "own.pth"


def test_no_weights_fit_a_demo():
    given = argparse.Namespace(config=NAME, checkpoint=None, demo=True)
    with pytest.raises(InputError, match="--demo shrinks the model, which no published weights"):
        checkpoint_of(given)
