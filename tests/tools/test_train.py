"""tools/train.py and tools/test.py, run as a user runs them."""

import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense.checkpoint.publish import publish
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.demo import write_ade20k
from tests.commands import CONFIG, SHORT, error_of, run, tool
from tests.conftest import TINY
from tests.published import official_state_dict


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """A working directory with the demo data."""
    path = tmp_path_factory.mktemp("run")
    (path / "data").symlink_to(demo_data)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """The demo trained for a few iterations."""
    command = tool("train", CONFIG, "--demo", "--cfg-options", *SHORT.split())
    result = run(command, folder, fresh=True)  # with the warnings of imports
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "work_dirs" / "demo" / "upernet_gfnet_ade20k", result


def test_demo_trains_evaluates_and_prints_the_paths_of_its_outputs(trained):
    work_dir, result = trained
    for pattern, kind in (
        (r"contact sheet: (\S+)", "PNG"),
        (r"curves: (\S+)", "PNG"),
    ):
        with Image.open(re.search(pattern, result.stdout)[1]) as picture:
            assert picture.format == kind and min(picture.size) > 200
            assert np.array(picture.convert("L")).std() > 10
    checkpoint = re.search(r"checkpoint: (\S+)", result.stdout)[1]
    assert checkpoint == str(work_dir / "iter_4.pth")
    assert re.search(r"Iter\(train\) \[4/4\].*eta", result.stdout)
    assert re.search(r"mIoU: \d", result.stdout)
    assert "Warning" not in result.stderr + result.stdout, result.stderr


def test_evaluation_of_the_checkpoint_gives_the_metric_of_the_last_validation(trained, folder):
    work_dir, result = trained
    command = tool("test", CONFIG, work_dir / "iter_4.pth", "--demo", "--out", "maps")
    command += ["--show-dir", "shown", "--cfg-options", *SHORT.split()]
    tested = run(command, folder)
    assert tested.returncode == 0, tested.stderr[-3000:]
    metric = re.compile(r"mIoU: ([\d.]+)")
    assert metric.findall(tested.stdout)[-1] == metric.findall(result.stdout)[-1]
    maps = sorted((folder / "maps").glob("*.png"))
    assert [p.stem for p in maps] == [f"ADE_val_{i:08d}" for i in (1, 2, 3)]
    assert np.array(Image.open(maps[0])).shape == (192, 256)
    assert sorted(p.stem for p in (folder / "shown").glob("*.jpg")) == [p.stem for p in maps]


def test_published_safetensors_can_be_tested_and_trained_from(trained, folder):
    """The file is used as load_from, and as the checkpoint in init_cfg of the backbone."""
    work_dir, result = trained
    published = publish(work_dir / "iter_4.pth", folder / "published.safetensors")
    command = tool("test", CONFIG, published, "--demo", "--cfg-options", *SHORT.split())
    tested = run(command, folder)
    assert tested.returncode == 0, tested.stderr[-3000:]
    metric = re.compile(r"mIoU: ([\d.]+)")
    assert metric.findall(tested.stdout)[-1] == metric.findall(result.stdout)[-1]
    options = [*SHORT.split(), "train_cfg.max_iters=1", "optim_wrapper.optimizer.lr=0"]
    command = tool("train", CONFIG, "--demo", "--work-dir", "tuned", "--cfg-options", *options)
    pretrained = "model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint="
    for start in (f"load_from={published}", f"{pretrained}{published}"):
        tuned = run([*command, *start.split()], folder)
        assert tuned.returncode == 0, tuned.stderr[-3000:]
        weights = read_checkpoint(folder / "tuned" / "iter_1.pth")["state_dict"]
        for name, weight in read_checkpoint(published)["state_dict"].items():
            if name.startswith("backbone."):  # it has no batch norm
                assert torch.equal(weights[name], weight), name


def test_test_time_augmentation_gives_a_metric(trained, folder):
    work_dir, _ = trained
    command = tool("test", CONFIG, work_dir / "iter_4.pth", "--demo", "--tta", "--cfg-options")
    tested = run([*command, *SHORT.split(), "test_dataloader.dataset.indices=1"], folder)
    assert tested.returncode == 0, tested.stderr[-3000:]
    assert "mIoU" in tested.stdout


def test_interrupted_training_resumes_from_its_last_checkpoint(folder):
    options = [*SHORT.split(), "train_cfg.max_iters=400", "train_cfg.val_interval=400"]
    command = tool("train", CONFIG, "--demo", "--work-dir", "stopped", "--cfg-options", *options)
    (folder / "stopped").mkdir()
    (folder / "stopped" / "last_checkpoint").write_text("of another run")
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    last = folder / "stopped" / "last_checkpoint"
    deadline = time.time() + 300
    while (
        (not last.exists() or "iter" not in last.read_text())
        and process.poll() is None
        and time.time() < deadline
    ):
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr[-3000:]
    saved = int(re.search(r"iter_(\d+).pth", last.read_text())[1])
    assert f"--resume goes on from iter_{saved}.pth" in stderr and "Traceback" not in stderr
    assert not list((folder / "stopped").glob("*.part"))
    options = [*SHORT.split(), f"train_cfg.max_iters={saved + 2}"]
    command = tool("train", CONFIG, "--demo", "--work-dir", "stopped", "--resume")
    resumed = run([*command, "--cfg-options", *options], folder)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert f"iter: {saved}" in resumed.stdout
    iterations = [int(i) for i in re.findall(r"Iter\(train\) \[(\d+)/", resumed.stdout)]
    assert iterations == [saved + 1, saved + 2]


def test_missing_data_of_a_full_size_config_give_a_one_line_error(tmp_path):
    error = error_of(run(tool("train", CONFIG), tmp_path))
    assert "ADE20K was not found: data/ade/ADEChallengeData2016/images/training" in error
    assert str(tmp_path) in error and "http" in error and "--demo" in error


def test_missing_and_broken_configs_and_options_give_a_one_line_error(tmp_path):
    error = error_of(run(tool("train", "configs/none.py"), tmp_path))
    assert error == (
        "error: the config configs/none.py does not exist: give a file, or the name of a config of "
        "this project, such as upernet_gfnet_ade20k"
    )
    (tmp_path / "broken.py").write_text("model = dict(\n")
    error = error_of(run(tool("train", "broken.py"), tmp_path))
    assert "broken.py cannot be read as a config: line 1: SyntaxError" in error
    command = tool("train", CONFIG, "--cfg-options", "train_cfg.max_iters.x=3")
    assert "--cfg-options do not fit the config" in error_of(run(command, tmp_path))
    result = run(tool("train", CONFIG, "--cfg-options", "max_iters"), tmp_path)
    assert result.returncode == 2 and "takes KEY=VALUE" in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 is only refused without a GPU")
@pytest.mark.parametrize("name", ["train", "test"])
def test_amp_in_float16_without_a_gpu_is_refused(folder, name):
    command = tool(name, CONFIG, *(["none.pth"] if name == "test" else []), "--demo", "--amp")
    error = error_of(run([*command, "float16"], folder))
    assert "mixed precision in float16 needs a GPU: on a CPU take bfloat16" in error


def test_training_and_test_in_bfloat16_resume_and_agree_with_float32(folder):
    command = tool("train", CONFIG, "--amp", "bfloat16", "--demo", "--work-dir", "half")
    assert (result := run([*command, "--cfg-options", *SHORT.split()], folder)).returncode == 0
    command = tool("test", CONFIG, "half/iter_4.pth", "--demo", "--amp", "bfloat16")
    tested = run([*command, "--cfg-options", *SHORT.split()], folder)
    assert tested.returncode == 0, tested.stderr[-3000:]
    figures = [float(re.findall(r"aAcc: (\d+\.\d+)", each.stdout)[-1]) for each in (result, tested)]
    assert figures[0] == pytest.approx(figures[1], abs=2)  # percent; the first is in float32
    command = tool("train", CONFIG, "--resume", "--demo", "--work-dir", "half")
    more = SHORT.replace("max_iters=4", "max_iters=5").split()
    resumed = run([*command, "--cfg-options", *more], folder)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    line = "optim_wrapper.type: gfnet_dense.Bfloat16OptimWrapper in the checkpoint, OptimWrapper"
    assert line in resumed.stdout + resumed.stderr
    assert "Warning" not in result.stderr + result.stdout


def test_checkpoint_of_another_arch_is_refused(trained, folder):
    work_dir, _ = trained
    other = f"model.backbone.arch={json.dumps('h-small')}"
    heads = ["model.decode_head.in_channels=[96,192,384,768]"]
    heads += ["model.auxiliary_head.in_channels=384"]
    command = tool("test", CONFIG, work_dir / "iter_4.pth", "--demo", "--cfg-options", other)
    error = error_of(run([*command, *heads], folder))
    assert "iter_4.pth does not fit the model of the config" in error
    pretrained = "model.backbone.init_cfg.checkpoint=" + str(work_dir / "iter_4.pth")
    command = tool("train", CONFIG, "--demo", "--work-dir", "other", "--cfg-options", other)
    command += [*heads, pretrained, "model.backbone.init_cfg.type=Pretrained"]
    error = error_of(run(command, folder))
    assert "checkpoint of another arch: expected dims 96/192/384/768" in error


def test_resuming_runs_no_code_from_the_checkpoint(trained, folder, tmp_path):
    """When it resumes, mmengine executes the text of the config in a checkpoint."""
    work_dir, _ = trained
    checkpoint = torch.load(work_dir / "iter_4.pth", weights_only=False)
    checkpoint["meta"]["config"] = f"import os\nos.mkdir({str(tmp_path / 'trace')!r})"
    (tmp_path / "run").mkdir()
    torch.save(checkpoint, tmp_path / "run" / "iter_4.pth")
    (tmp_path / "run" / "last_checkpoint").write_text(str(tmp_path / "run" / "iter_4.pth"))
    command = tool("train", CONFIG, "--demo", "--resume", "--work-dir", tmp_path / "run")
    options = [*SHORT.split(), "train_cfg.max_iters=5"]
    result = run([*command, "--cfg-options", *options], folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Iter(train) [5/5]" in result.stdout and not (tmp_path / "trace").exists()

    torch.save({"state_dict": checkpoint["state_dict"]}, tmp_path / "run" / "iter_5.pth")
    error = error_of(run([*command, "--cfg-options", *options], folder))
    assert "holds weights only, nothing to resume from" in error


def test_load_from_refuses_weights_that_do_not_fit_the_model(trained, folder, tmp_path):
    work_dir, _ = trained
    torch.save({"model": official_state_dict(TINY["dims"], TINY["depths"], 64)}, tmp_path / "o.pth")
    command = tool("train", CONFIG, "--demo", "--work-dir", tmp_path / "run", "--cfg-options")
    error = error_of(run([*command, f"load_from={tmp_path / 'o.pth'}"], folder))
    assert "o.pth has too little of the model" in error
    assert "holds a backbone alone, which belongs into the backbone's init_cfg" in error


def test_full_disk_gives_a_one_line_error_and_leaves_no_partial_checkpoint(folder, tmp_path):
    """A limit on the size of files stands for a full disk."""
    command = tool("train", CONFIG, "--demo", "--work-dir", tmp_path / "run", "--cfg-options")
    limited = ["bash", "-c", 'ulimit -f 20000; exec "$@"', "-", *command, *SHORT.split()]
    error = error_of(run(limited, folder))
    assert "could not be written" in error
    assert not list((tmp_path / "run").rglob("*.pth*"))


def test_unknown_names_in_the_config_give_a_one_line_error(folder):
    for option, message in (
        ("model.backbone.typo=1", "unexpected keyword argument 'typo'"),
        ("model.backbone.type=Foo", "Foo is not in the"),
        ("model.backbone.filter_resize=nearest", "filter_resize is one of trigonometric"),
    ):
        command = tool("train", CONFIG, "--demo", "--cfg-options", option)
        assert message in error_of(run(command, folder))


def test_failed_download_of_pretrained_weights_gives_a_one_line_error(folder):
    """The message names the address and where to put a file downloaded by hand."""
    command = tool("train", CONFIG, "--work-dir", "fetch", "--cfg-options")
    root = write_ade20k(folder / "data" / "demo")
    command += [f"{split}_dataloader.dataset.data_root={root}" for split in ("train", "val")]
    environment = dict(os.environ, TORCH_HOME=str(folder / "home"), https_proxy="127.0.0.1:9")
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    error = error_of(result)
    assert "cloud.tsinghua.edu.cn" in error
    assert str(folder / "home/hub/checkpoints/gfnet-h-ti.pth") in error
    assert not list((folder / "home").rglob("*.*"))


@pytest.mark.parametrize("kind", ["image", "label map"])
def test_broken_training_data_give_a_one_line_error_with_the_file(tmp_path, kind):
    root = write_ade20k(tmp_path / "data" / "demo")
    if kind == "image":
        victim, message = root / "images/training/ADE_train_00000005.jpg", "cannot be read as image"
        victim.write_bytes(victim.read_bytes()[:3000])
    else:
        victim = root / "annotations/training/ADE_train_00000005.png"
        message = "holds the index 200, accepted are 1..150"
        Image.fromarray(np.full((192, 256), 200, np.uint8)).save(victim)
    (tmp_path / "tiny.py").write_text(
        f"_base_ = [{str(CONFIG)!r}]\n"
        f"arch = dict(_delete_=True, **{TINY!r})\n"
        "model = dict(\n"
        "    backbone=dict(arch=arch), decode_head=dict(in_channels=arch['dims']),\n"
        "    auxiliary_head=dict(in_channels=arch['dims'][2]))\n"
    )
    command = tool("train", "tiny.py", "--demo", "--cfg-options", *SHORT.split())
    command += ["train_dataloader.dataset.indices=6", "train_cfg.max_iters=20"]
    error = error_of(run(command, tmp_path))
    assert victim.name in error and message in error
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--launcher", "slurm"], "--launcher slurm needs GPUs"),
        (["--launcher", "pytorch"], "torchrun --nproc-per-node=GPUS tools/train.py"),
        (["--demo", "--cfg-options", "train_dataloader.dataset.typo=1"], "typo"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="slurm is only refused without a GPU")
def test_wrong_launchers_and_dataset_options_give_a_one_line_error(folder, arguments, words):
    assert words in error_of(run(tool("train", CONFIG, *arguments), folder))
