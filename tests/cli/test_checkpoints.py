"""The word of a command line that is a checkpoint, and the checkpoint where none is given."""

import argparse
import io
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from gfnet_dense.cli import checkpoint_of, split_inputs
from gfnet_dense.cli.checkpoints import is_checkpoint, starts_as_checkpoint
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
        ("noext", False),
        ("noext.2", False),
        ("empty", False),
        ("zipped.jpg", False),
        ("photo.jpg", False),
        ("PHOTO.TIFF", False),
        ("bands.npy", False),
        ("film.mp4", False),
        ("missing.jpg", False),
        ("missing", False),
        ("folder", False),
        ("folder.pt", False),
        ("folder.pth/photo.png", False),
        ("*.png", False),
        (".", False),
        ("", False),
    ],
)
def test_a_checkpoint_is_told_from_images(word, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder.pt"):
        (tmp_path / name).mkdir()
    for name in ("photo.jpg", "film.mp4", "empty"):
        (tmp_path / name).touch()
    for name in ("weights", "weights.v2", "zipped.jpg"):
        torch.save({}, tmp_path / name)
    for name in ("noext", "noext.2"):
        (tmp_path / name).write_bytes(image("PNG"))
    assert is_checkpoint(word) is expected


def image(kind):
    """Return an image file in a format of Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((9, 300, 3), 123, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def saved(**kwargs):
    """Return a file of PyTorch."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(2)}}, buffer, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        saved(),
        saved(_use_new_zipfile_serialization=False),
        *(pickle.dumps({}, protocol) for protocol in (2, 3, 4, 5)),
        safetensors.torch.save({"a": torch.zeros(2)}),
        safetensors.torch.save({}),
    ],
)
def test_checkpoints_are_known_by_their_first_bytes(content):
    assert starts_as_checkpoint(content[:16])


@pytest.mark.parametrize(
    "content",
    [
        *map(image, ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "TGA", "JPEG2000")),
        b"\0\0\0\x18ftypheic",
        b"\0\0\0 ftypisom\0\0\2\0",  # MP4
        b"RIFF{{{{AVI LIST",
        b"\x93NUMPY\1\0v\0{'desc",
        b'{"a": [{"b": 1}]}',
        b"<!DOCTYPE html>",
        b"PK",
        b"\x80",
        b"",
    ],
)
def test_images_videos_and_others_are_no_checkpoints(content):
    assert not starts_as_checkpoint(content[:16])


@pytest.mark.parametrize(
    "words, checkpoint, inputs",
    [
        ("own.pth photo.jpg", "own.pth", ["photo.jpg"]),
        ("photo.jpg folder *.png", None, ["photo.jpg", "folder", "*.png"]),
        ("own.pth", "own.pth", []),
        ("photo.jpg folder.pt", None, ["photo.jpg", "folder.pt"]),
        ("", None, []),
    ],
)
def test_a_checkpoint_before_the_inputs_may_be_left_out(
    words, checkpoint, inputs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.pt").mkdir()
    assert split_inputs(NAME, words.split()) == (checkpoint, inputs)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["photo.jpg", "old.pth"], f"before the inputs: {NAME} old.pth photo.jpg"),
        (["a b.jpg", "old x.PT", "c"], f"before the inputs: {NAME} 'old x.PT' 'a b.jpg' c"),
        (["a.jpg", "hornet://tiny-gf"], f"before the inputs: {NAME} hornet://tiny-gf a.jpg"),
        (["a.jpg", "*.pth"], f"before the inputs: {NAME} '*.pth' a.jpg"),
        (["own.pth", "a.jpg", "old.pth"], "one checkpoint is accepted, and own.pth and old.pth "),
    ],
)
def test_a_checkpoint_behind_an_input_is_refused(words, sentence):
    with pytest.raises(InputError) as error:
        split_inputs(NAME, words)
    assert sentence in str(error.value)


def test_a_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({}, tmp_path / "weights")
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
