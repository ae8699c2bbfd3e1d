import csv
import json

import pytest

from tests.commands import error_of, run, tool
from tests.conftest import ROOT


def test_benchmark_prints_a_table_writes_files_and_resumes(tmp_path):
    command = tool("benchmark", "mixers", "--sizes", 8, 16, "--rounds", 1, "--out", "out")
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| global filter" in result.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["complete"] and len(results["cases"]) == 8
    assert all(len(case["records"]) == 1 for case in results["cases"])
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["series"], row["size"]) for row in rows} == {
        (case["series"], str(case["size"])) for case in results["cases"]
    }
    for suffix in ("png", "svg"):
        assert (tmp_path / "out" / f"plot.{suffix}").stat().st_size > 10_000

    result = run([*command, "--resume"], tmp_path)
    assert result.returncode == 0 and "round" not in result.stdout  # nothing was left to do


def test_a_failed_case_ends_with_an_error_and_the_place_of_its_traceback(tmp_path):
    config = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
    text = f"_base_ = {str(config)!r}\nmodel = dict(decode_head=dict(in_channels=[1, 1, 1, 1]))\n"
    (tmp_path / "broken.py").write_text(text)
    command = tool("benchmark", "model", "broken.py", "--demo", "--sizes", 64, "--out", "out")
    result = run(command, tmp_path)
    assert result.returncode == 1 and "failed" in result.stdout
    assert result.stderr.endswith("why some failed: out/results.log\n")
    assert "Traceback" in (tmp_path / "out" / "results.log").read_text()


def test_a_model_is_measured_against_another_one(tmp_path):
    command = tool("benchmark", "model", "segformer_gfnet-h-ti_ade20k", "--demo", "--sizes", 64)
    command += ["--rounds", "1", "--train", "--batch-size", "2", "--out", "out"]
    result = run([*command, "--against", "SegNeXt-T"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Time over that of segformer_gfnet-h-ti_ade20k, by size:" in result.stdout
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["series"] for row in rows} == {"segformer_gfnet-h-ti_ade20k", "SegNeXt-T"}
    assert all(float(row["flops"]) > 0 and row["batch_size"] == "2" for row in rows)


@pytest.mark.parametrize(
    "args, message",
    [
        (["backbones", "--models", "GFNet-X"], "the backbones here are GFNet-H-Ti, "),
        (["backbones", "--against-published", "--sizes", "100"], "multiples of 32, got 100"),
        (["backbones", "--against-published", "--models", "Swin-T"], "leave out --models"),
        (["mixers", "--device", "cuda:99"], "the device cuda:99 was not found"),
        (["mixers", "--rounds", "0"], "rounds is 1 or more, got 0"),
        (["mixers", "--amp", "float16"], "float16 needs a GPU"),
        (["mixers", "--tf32"], "TF32 is a format of NVIDIA's GPUs, got the device cpu"),
        (
            ["model", "fpn_gfnet-h-ti_ade20k", "--against", "MaskRCNN-Swin-T"],
            "a segmentor is measured against stock-heads, UPerNet-Swin-T, ",
        ),
        (["model", "configs/nothing.py"], "the config configs/nothing.py does not exist"),
        (["model", "--amp", "configs/nothing.py"], "the config configs/nothing.py does not exist"),
    ],
)
def test_wrong_arguments_give_a_one_line_error(args, message, tmp_path):
    assert message in error_of(run(tool("benchmark", *args), tmp_path))
    assert not list(tmp_path.iterdir())
