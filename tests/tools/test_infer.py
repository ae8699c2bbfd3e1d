"""Exit codes of infer.py, and what is left on the disk when it ends early."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import api
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from tests.apis.films import cut, film
from tests.commands import run, tool
from tests.conftest import ROOT, needs_operators

SEG = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
DET = ROOT / "configs" / "retinanet_gfnet-h-ti_coco.py"


def weights(config, path):
    cfg = read_config(str(config))
    shrink(cfg)
    model = api.load_model(cfg, None)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("infer")
    (path / "photos").mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(photo).save(path / "photos" / name)
    (path / "photos" / "notes.txt").touch()
    for name in ("broken.png", "text.dat"):
        (path / name).write_text("no image")
    (path / "film.avi").write_bytes(cut(film(path / "film.avi")))
    (path / "file").touch()
    weights(SEG, path / "weights.pth")
    return path


# Case, arguments, exit code, sentence on stderr, number of label maps
CASES = [
    ("all predicted, some left out", "photos", 0, "photos: left out: 1 .txt (notes.txt)", 2),
    ("one skipped", "photos broken.png", 1,
     "error: 1 of 3 inputs were skipped, or read in part", 2),
    ("all skipped", "broken.png text.dat", 1,
     "error: 2 of 2 inputs were skipped, or read in part", 0),
    ("a video read in part", "photos film.avi", 1,
     "error: 1 of 3 inputs were skipped, or read in part", 2),
    ("nothing to predict", "photos/notes*.png", 1,
     "error: photos/notes*.png is no image, folder, pattern of files, or video", 0),
    ("a value that is out of range", "photos --opacity 2", 1,
     "error: --opacity is between 0 and 1, got 2", 0),
    ("an unknown argument", "photos --no-such", 2, "error: unrecognized arguments: --no-such", 0),
    ("no inputs", "", 2, "error: the following arguments are required: inputs", 0),
]  # fmt: skip


def infer(*arguments, out="out", config=SEG, weights="weights.pth"):
    # The last --out-dir counts; a list of arguments takes all that follow it.
    return tool("infer", config, weights, *arguments, "--demo", "--out-dir", out, "--device", "cpu")


def test_exit_codes_say_whether_all_was_predicted(folder, tmp_path, check_table):
    rows = [["case", "exit code", "what is said", "images predicted"]]
    for case, arguments, code, said, count in CASES:
        out = tmp_path / str(len(rows))
        result = run(infer(*arguments.split(), out=out), folder)
        assert "Traceback" not in result.stderr, result.stderr
        assert result.returncode == code, (case, result.stderr)
        assert any(line.startswith(said) for line in result.stderr.splitlines()), result.stderr
        assert len(list(out.rglob("labels/*.png"))) == count, case
        assert "error" not in result.stdout and "skipped" not in result.stdout
        rows.append([case, code, said, count])
    for case, out, said in [
        ("an output folder that is a file", "file", "File exists"),
        ("an output folder in a file", "file/out", "Not a directory"),
    ]:
        result = run(infer("photos", out=out), folder)
        said = f"error: results cannot be written to {out}: {said}"
        assert result.returncode == 1 and said in result.stderr, result.stderr
        rows.append([case, 1, said, 0])
    check_table("exit codes of infer", rows)


def test_the_pipe_of_the_output_may_close_early(folder, tmp_path):
    command = infer("photos", out=tmp_path / "out")
    reader = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    reader.wait()
    process = subprocess.run(
        command, cwd=folder, stdout=reader.stdin, stderr=subprocess.PIPE, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / "out" / "labels").glob("*.png"))) == 2


@needs_operators
def test_detections_before_ctrl_c_are_written(folder, tmp_path):
    weights(DET, tmp_path / "det.pth")
    (tmp_path / "many").mkdir()
    for i in range(300):
        shutil.copy(folder / "photos" / "a.png", tmp_path / "many" / f"{i:03d}.png")
    command = infer("many", config=DET, weights="det.pth")
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells let what they start in the background ignore Ctrl-C, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    overlays = tmp_path / "out" / "overlays"
    deadline = time.time() + 300
    while len(list(overlays.glob("*.jpg"))) < 3 and process.poll() is None:
        assert time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr[-2000:]
    assert "Traceback" not in stderr and "interrupted" in stderr
    images = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    assert 3 <= len(images) < 300
    # The last overlay may not have been written, the detections were complete.
    written = {path.stem for path in overlays.glob("[0-9]*.jpg")}
    assert written <= {image["file_name"][:3] for image in images}
    assert len(images) - len(written) <= 1
    assert not [p for p in (tmp_path / "out").rglob(".*") if p.suffix]  # temporary files


def test_a_full_disk_stops_with_a_sentence(folder, tmp_path):
    """In a mount namespace of its own, a disk of 100 kB."""
    script = 'mount -t tmpfs -o size=100k none "$0" && exec "$@"'
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["unshare", "-rm", "sh", "-c", script, disk, "true"]).returncode:
        pytest.skip("no disk can be mounted here")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(20):
        image = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(image).save(photos / f"{i:02d}.png")
    command = ["unshare", "-rm", "sh", "-c", script, disk, *infer(photos, out=disk / "out")]
    result = subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=300)
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "could not be written: No space left on device; " in line
    assert line.endswith("were written before, whole")


def test_an_output_folder_of_undecodable_name_is_printed(folder, tmp_path):
    out = tmp_path / os.fsdecode(b"\xff")
    result = run(infer("photos", out=out), folder)
    assert result.returncode == 0, result.stderr
    assert f"results: {tmp_path}/\\udcff" in result.stdout
