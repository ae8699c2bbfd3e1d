"""Commands by the name of a model, with the trained weights of its authors or a user's own.

The official files cannot be had here: files of random weights stand in for them, saved by hand into
the folder of downloads.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import load_model
from tests.commands import error_of, run, tool
from tests.conftest import ROOT

NAME = "upernet_hornet-tiny-gf_ade20k"
FILE = "hornet-upernet-tiny-gf-ade20k.pth"
COMMANDS = [
    ("infer", ["photo.png"]),
    ("test", []),
    ("export_onnx", ["--size", "64"]),
    ("analyze_errors", []),
    ("benchmark", ["--scales", "1"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A photo, a data set of one image, and weights of random numbers, official ones and others."""
    path = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8))
    labels = Image.fromarray(rng.integers(0, 151, (40, 48), np.uint8))
    for kind, image, name in (("images", photo, "a.jpg"), ("annotations", labels, "a.png")):
        (path / "ade" / kind / "validation").mkdir(parents=True)
        image.save(path / "ade" / kind / "validation" / name)
    photo.save(path / "photo.png")
    model = load_model(NAME)
    hub = path / "home" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    meta = dict(CLASSES=[f"c{i}" for i in range(150)], PALETTE=[[i, 0, 0] for i in range(150)])
    with torch.no_grad():
        for file, label in ((hub / FILE, 7), (path / "own.pth", 8)):  # predicted everywhere
            model.decode_head.conv_seg.bias[label] = 100 * label
            torch.save({"meta": meta, "state_dict": model.state_dict()}, file)
    return path


@pytest.fixture
def downloaded(folder, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(folder / "home"))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network: a proxy where nobody answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")


def by_name(command, name, *arguments):
    subcommand = ["transfer"] if command == "benchmark" else []
    dataset = "test_dataloader.dataset"
    options = f"{dataset}.data_root=ade", f"{dataset}.pipeline.1.scale=(64,64)"
    return tool(command, *subcommand, name, *arguments, "--cfg-options", *options)


def predicted(out):
    (path,) = (out / "labels").glob("*.png")
    return set(np.asarray(Image.open(path)).ravel().tolist())


def test_a_name_means_the_weights_of_its_authors_and_a_file_behind_it_a_users_own(
    folder, downloaded, tmp_path
):
    for words, label in ((["photo.png"], 7), (["own.pth", "photo.png"], 8)):
        out = tmp_path / str(label)
        command = by_name("infer", NAME, *words, "--out-dir", out, "--device", "cpu")
        result = run(command, folder)
        assert result.returncode == 0, result.stderr[-3000:]
        assert predicted(out) == {label}
        assert "c149" in (out / "labels" / "classes.txt").read_text()
    assert (folder / "home" / "hub" / "checkpoints" / f"{FILE}.sha256").exists()


def test_a_name_is_tested(folder, downloaded):
    result = run(by_name("test", NAME), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "mIoU" in result.stdout


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([NAME, "photo.png", "own.pth"], f"before the inputs: {NAME} own.pth photo.png"),
        ([NAME, "photo.png", "hornet://tiny-gf"], f"inputs: {NAME} hornet://tiny-gf photo.png"),
        (["photo.png", NAME], "photo.png is no config, which is a file *.py or the name of a "),
        (["photo.png", "own.pth", NAME], "the order is CONFIG, then CHECKPOINT, then images and "),
        (["own.pth", NAME, "photo.png"], "own.pth is no config, which is a file *.py or the name "),
        (["missing.jpg", NAME], "missing.jpg does not exist: give a file, or the name of a config"),
        (["missing.jpg", NAME], "the order is CONFIG, then CHECKPOINT, then images and videos"),
        (["pub", "missing.png"], "missing.png is no image, folder, pattern of files, or video"),
        (["pub", "own.pth", "photo.png"], "pub is a shared model, which has weights and settings "),
        (["pub/config.json", "--demo", "photo.png"], "leave out --demo, or give the config of the"),
        (["pub", "photo.png", "--cfg-options", "a=1"], "own: leave out --cfg-options, or give"),
    ],
)
def test_words_in_another_order_are_refused_before_anything_is_fetched(
    words, sentence, folder, tmp_path, offline
):
    shared = dict(default_scope="mmseg", model=dict(backbone={}))
    shared["test_dataloader"] = dict(dataset=dict(pipeline=[dict(type="PackSegInputs")]))
    (folder / "pub").mkdir(exist_ok=True)
    (folder / "pub" / "config.json").write_text(
        json.dumps(dict(library_name="gfnet-dense", config=shared))
    )
    (folder / "pub" / "model.safetensors").touch()
    error = error_of(run(tool("infer", *words, "--out-dir", tmp_path / "out"), folder))
    assert sentence in error
    assert not list(tmp_path.iterdir())  # neither outputs nor downloads


def test_photos_and_weights_without_a_suffix_are_told_by_their_content(
    folder, downloaded, tmp_path
):
    for source, target in (("photo.png", "noext"), ("own.pth", "weights")):
        (tmp_path / target).write_bytes((folder / source).read_bytes())
    (tmp_path / "ade").symlink_to(folder / "ade")
    for words, label in ((["noext", "noext"], 7), (["weights", "noext"], 8)):
        out = tmp_path / str(label)
        command = by_name("infer", NAME, *words, "--out-dir", out, "--device", "cpu")
        result = run(command, tmp_path)
        assert result.returncode == 0, result.stderr[-3000:]
        assert predicted(out) == {label}


def test_a_file_that_cannot_be_read_is_told_in_a_sentence(tmp_path):
    (tmp_path / "weights").touch(mode=0)
    if os.access(tmp_path / "weights", os.R_OK):
        pytest.skip("root reads every file")
    error = error_of(run(tool("infer", NAME, "weights", "photo.png"), tmp_path))
    assert error == "error: weights could not be written or read: Permission denied"


@pytest.mark.parametrize("command, arguments", COMMANDS)
def test_without_network_a_sentence_says_where_to_save_the_file(
    command, arguments, folder, tmp_path, offline
):
    error = error_of(run(by_name(command, NAME, *arguments), folder))
    assert re.search(r"could not download https://cloud\.tsinghua\.edu\.cn/f/34725e\w+/", error)
    assert f"save it as {tmp_path}/hub/checkpoints/{FILE}" in error


@pytest.mark.parametrize("command, arguments", COMMANDS)
def test_a_name_without_trained_weights_needs_a_checkpoint(command, arguments, folder):
    error = error_of(run(by_name(command, "upernet_gfnet_ade20k", *arguments), folder))
    assert error.startswith("error: there are no trained weights of upernet_gfnet_ade20k (is ")
    assert f"give a checkpoint, or one of the models that were trained, {NAME}, " in error


@pytest.mark.parametrize("command, arguments", COMMANDS)
def test_no_trained_weights_fit_a_demo(command, arguments, tmp_path):
    command = by_name(command, NAME, "--demo", *arguments)
    assert "error: --demo shrinks the model" in error_of(run(command, tmp_path))


def test_dist_test_takes_a_name_alone(tmp_path):
    script = str(ROOT / "tools" / "dist_test.sh")
    error = error_of(run([script, "c.py"], tmp_path))
    assert "usage: tools/dist_test.sh CONFIG [CHECKPOINT] PROCESSES [arguments" in error
    for words, passed in (
        ([NAME, "2", "--tta"], ["test.py", "2", NAME, "--tta"]),
        (["c d.py", "x y.pth", "2"], ["test.py", "2", "c d.py", "x y.pth"]),
    ):
        # In place of Python a program that prints its words, one on a line
        environment = {**os.environ, "PYTHON": str(tmp_path / "words")}
        (tmp_path / "words").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
        (tmp_path / "words").chmod(0o755)
        result = run([script, *words], tmp_path, env=environment)
        assert result.stdout.splitlines()[1:] == passed


def gfnet_dense(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "gfnet_dense", *words], cwd=cwd, capture_output=True, text=True
    )


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_program_lists_all_commands(words, tmp_path):
    result = gfnet_dense(*words, cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr
    lines = result.stdout.splitlines()
    for path in (ROOT / "tools").glob("*.py"):
        (line,) = (line for line in lines if line.startswith(f"  {path.stem} "))
        summary = line.removeprefix(f"  {path.stem}").strip()
        assert len(summary) > 20 and summary in path.read_text()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["infr"], "error: there is no command infr (is infer meant?); all: gfnet-dense --help"),
        (["--trust"], "error: there is no command --trust; all: gfnet-dense --help"),
        (["test"], "error: the following arguments are required: config; "
         "all arguments: gfnet-dense test --help"),
        (["benchmark", "transfer"], "error: the following arguments are required: config; "
         "all arguments: gfnet-dense benchmark transfer --help"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_under_the_name_of_the_program(words, sentence, tmp_path):
    result = gfnet_dense(*words, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (2, f"{sentence}\n")


@pytest.mark.parametrize("words", [["help", "export-onnx"], ["export_onnx", "--help"]])
def test_a_command_is_found_by_other_habits(words, tmp_path):
    result = gfnet_dense(*words, cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("usage: gfnet-dense export_onnx [-h]")


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_program_tells_its_version(word, tmp_path):
    assert gfnet_dense(word, cwd=tmp_path).stdout == f"gfnet-dense {version('gfnet-dense')}\n"


def test_the_list_of_commands_may_be_cut(tmp_path):
    """By head, which closes its end of the pipe."""
    source, target = os.pipe()
    os.close(source)
    result = subprocess.run(
        [sys.executable, "-m", "gfnet_dense"], cwd=tmp_path, stdout=target, stderr=subprocess.PIPE
    )
    os.close(target)
    assert (result.returncode, result.stderr) == (1, b"")


def test_the_program_passes_words_and_exit_codes_on(tmp_path):
    result = gfnet_dense("print_config", "--help", cwd=tmp_path)
    assert result.stdout.startswith("usage: gfnet-dense print_config [-h]")
    assert "    gfnet-dense print_config configs/upernet_gfnet_ade20k.py --demo\n" in result.stdout
    result = gfnet_dense("infer", "no config", "a.jpg", "--opacity", "2", cwd=tmp_path)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        1, "error: --opacity is between 0 and 1, got 2"
    )  # fmt: skip
