import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

import gpu
import gpu_cases
import gpu_report
import gpu_tests
from gfnet_dense.benchmark.measure import Settings
from gfnet_dense.benchmark.processes import NO_TIME, OK, OUT_OF_MEMORY, Case
from gfnet_dense.utils.errors import InputError
from tests.benchmark.test_sweep import counting
from tests.conftest import ROOT
from tests.markdown import read_table

TINY = Namespace(device="cpu", tiny=True, minutes=10)


def command(*arguments, cwd, **env):
    return subprocess.run(
        [sys.executable, ROOT / ".dev" / "gpu.py", *map(str, arguments)],
        cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def is_drawn(path):
    return np.asarray(Image.open(path).convert("L")).std() > 10


def test_whole_command_runs_on_a_cpu(tmp_path):
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    result = command("--device", "cpu", "--tiny", "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    out = tmp_path / "out"
    names = {path.stem for path in out.glob("*.json")}
    kinds = ("precision", "backbones", "model", "heads", "shapes", "training")
    assert names == {"tests", "shapes_inference", "shapes_training", "backbones_compiled"} | {
        f"{kind}_{label}"
        for kind in ("precision", "backbones", "training", "model", "heads")
        for label in ("float32", "bfloat16")
        if label == "float32" or kind in ("precision", "backbones")
    }
    for name in names - {"tests"}:
        results = json.loads((out / f"{name}.json").read_text())
        assert results["complete"] and results["machine"]["torch"] == torch.__version__
        assert [case["status"] for case in results["cases"]] == [OK] * len(results["cases"])
    assert json.loads((out / "tests.json").read_text())["status"] == "ok"  # all are skipped
    assert {path.suffix for path in out.iterdir()} == {".json", ".png", ".md"}  # no log, no mark
    report = (out / "report.md").read_text()
    assert report.partition("\n\n")[2].strip() in result.stdout
    assert "(no GPU)" in report and "Left out" not in report
    figures = {path.stem for path in out.glob("*.png")}
    assert figures == set(kinds) - {"precision", "shapes"} | {"shapes_inference", "shapes_training"}
    for name in figures:
        assert f"({name}.png)" in report and is_drawn(out / f"{name}.png")
    assert all(any(name.startswith(kind) for kind in kinds) for name in names - {"tests"})
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page


@pytest.fixture
def two_parts(tmp_path, monkeypatch):
    """Replace the parts by two of two cases that count their runs, and the tests by a file."""
    (tmp_path / "runs").mkdir()
    options = {"folder": str(tmp_path / "runs")}
    cases = [Case("a", size, counting, options) for size in (1, 2)]
    parts = [
        gpu.Part(name, 30, lambda: cases, {}) for name in ("shapes_inference", "model_float32")
    ]
    monkeypatch.setattr(gpu, "make_parts", lambda device, tiny: parts)
    monkeypatch.setattr(gpu, "run_tests", lambda path, limit: path.write_text('{"status": "ok"}'))
    return Namespace(**vars(TINY), out=tmp_path / "out")


def runs(args):
    return len(list((args.out.parent / "runs").iterdir()))


def interrupt(*args):
    raise KeyboardInterrupt


def test_interrupted_command_goes_on_and_a_finished_one_starts_anew(two_parts, monkeypatch):
    parts = gpu.make_parts("cpu", True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut = gpu.Part("model_float32", 30, interrupt, {})
        patch.setattr(gpu, "make_parts", lambda *args: [parts[0], cut])
        gpu.run(two_parts)
    assert runs(two_parts) == 2
    (two_parts.out / "others.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "run_tests", interrupt)  # they have run
        gpu.run(two_parts)
    assert runs(two_parts) == 4
    for name in ("model.png", "model_a.json", "training_b.json", "user.png"):
        (two_parts.out / name).write_text("{}")
    gpu.run(two_parts)
    assert runs(two_parts) == 8
    names = {path.name for path in two_parts.out.iterdir()}
    theirs = {"others.json", "model_a.json", "training_b.json", "user.png"}
    assert names == {"tests.json", "shapes_inference.json", "model_float32.json"} | theirs


def test_unfinished_run_with_other_arguments_is_refused_and_kept(two_parts):
    two_parts.out.mkdir()
    mark = two_parts.out / gpu.UNFINISHED
    mark.write_text('{"device": "cuda", "tiny": false}')
    with pytest.raises(InputError, match="unfinished run with {'device': 'cuda'.*to start anew"):
        gpu.run(two_parts)
    assert mark.exists() and runs(two_parts) == 0


def test_time_that_a_part_leaves_goes_to_the_next_ones(two_parts, monkeypatch):
    now, budgets = [0.0], []

    def run_sweep(cases, path, rounds, limit, resume, settings, budget):
        budgets.append(budget)
        path.write_text('{"cases": []}')
        now[0] += 20

    def run_tests(path, limit):
        assert limit == pytest.approx(0.3 * 570)
        path.write_text("{}")
        now[0] += 100

    parts = [gpu.Part(f"shapes_{i}", seconds, list, {}) for i, seconds in enumerate((10, 30, 60))]
    monkeypatch.setattr(gpu, "make_parts", lambda *args: parts)
    monkeypatch.setattr(gpu, "run_tests", run_tests)
    monkeypatch.setattr("gfnet_dense.benchmark.sweep.run_sweep", run_sweep)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    gpu.run(two_parts)
    # Half a minute of ten is kept for the report; the tests take 100 s, each part 20 s.
    assert budgets == pytest.approx([470 * 0.1, 450 * 30 / 90, 430])


def test_parts_on_a_gpu_have_every_precision_and_fit_into_ten_minutes(monkeypatch, capsys):
    parts = {part.name: part for part in gpu.make_parts("cuda", False)}
    labels = ("float32", "TF32", "float16", "bfloat16")
    for kind in ("precision", "backbones", "model"):
        assert {f"{kind}_{label}" for label in labels} <= set(parts)
    assert {name for name in parts if name.startswith("training")} == {
        "training_float32", "training_float16", "training_bfloat16",
    }  # fmt: skip
    assert sum(part.seconds for part in parts.values()) <= 0.7 * 600  # the tests take the rest
    settings = {name: part.settings for name, part in parts.items()}
    assert [settings[f"backbones_{label}"]["amp"] for label in labels] == [
        None, None, "float16", "bfloat16",
    ]  # fmt: skip
    assert {name for name in parts if name.startswith("heads")} == {
        "heads_float32", "heads_TF32", "heads_bfloat16",
    }  # fmt: skip
    assert {case.series for case in parts["heads_TF32"].cases()} == {gpu.CONFIG, "stock-heads"}
    assert [settings[f"backbones_{label}"]["tf32"] for label in labels] == [0, 1, 0, 0]
    for name, part in parts.items():
        for case in part.cases():
            used = case.options["settings"]
            assert used["device"] == "cuda" and used["train"] == ("training" in name)
            assert used["compile"] == (name == "backbones_compiled")
            assert settings[name] == {**settings[name], **used}  # what the file records
    limits = {case.options["plans"] for case in parts["shapes_inference"].cases()}
    assert limits == {0, 16, 64, 256, 4096}
    assert "GFNet-H-Ti" in {case.series for case in parts["training_float32"].cases()}

    from gfnet_dense.benchmark import backbones

    monkeypatch.setattr(backbones, "import_models", interrupt_unless_ours)
    parts = {part.name: part for part in gpu.make_parts("cuda", False)}
    assert "the whole segmentor is left out: mmseg cannot be imported" in capsys.readouterr().out
    assert not any(name.startswith(("model", "heads")) for name in parts)
    series = {case.series for case in parts["backbones_float32"].cases()}
    assert series == {"GFNet-H-Ti"}


def interrupt_unless_ours(library):
    if library != "gfnet_dense":
        raise ModuleNotFoundError(library)


def failing(size):
    raise ValueError("of a case")


def test_results_of_the_repository_go_to_the_page_and_failures_to_the_exit_code(
    two_parts, tmp_path, monkeypatch, capsys
):
    cases = [Case("a", 1, failing, {})]
    parts = [*gpu.make_parts("cpu", True), gpu.Part("backbones_TF32", 30, lambda: cases, {})]
    monkeypatch.setattr(gpu, "make_parts", lambda *args: parts)
    monkeypatch.setattr(gpu_report, "write_report", lambda folder, draw: "the report")
    monkeypatch.setattr(gpu_report, "describe_page", lambda folder, docs: f"of {folder.name}")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "RESULTS", two_parts.out)
    monkeypatch.setattr(gpu, "check_args", lambda args: None)
    monkeypatch.setattr(gpu, "parse_args", lambda: two_parts)
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text("a\n\n<!-- gpu -->\nold\n<!-- end -->\n\nb\n")
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="backbones_TF32 failed"):
        # A command changes its process: undo it.
        patch.setattr(sys, "path", sys.path[:])
        patch.setenv("PYTHONPATH", "")
        patch.setenv("TORCH_COMPILE_DISABLE", "")
        patch.setattr(gpu.signal, "signal", lambda *args: None)
        patch.setattr("gfnet_dense.cli.quiet_third_party", lambda: None)
        gpu.main()
    assert page.read_text() == "a\n\n<!-- gpu -->\nof out\n<!-- end -->\n\nb\n"
    assert "ValueError: of a case" in (two_parts.out / "backbones_TF32.log").read_text()
    assert [path.name for path in two_parts.out.glob("*.log")] == ["backbones_TF32.log"]
    assert "the report" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "finds no NVIDIA GPU here: take a machine"),
        (["--device", "cuda:1"], "cuda:1 was not found"),
        (["--device", "cpu"], "is for results of GPUs: add --out"),
        (["--device", "cpu", "--out", "x", "--minutes", "0"], "--minutes is above 0, got 0"),
    ],
)
def test_wrong_arguments_give_a_sentence_and_write_nothing(arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(InputError, match=message):
        gpu.check_args(gpu.parse_args())
    assert not gpu.RESULTS.exists() or not (gpu.RESULTS / gpu.UNFINISHED).exists()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name in ("mmengine", "rich") else 1)
    with pytest.raises(SystemExit, match="error: .* has no mmengine, rich: install"):
        gpu.main()


TESTS = """
import pytest, time
pytestmark = pytest.mark.gpu
def test_good(): pass
def test_bad(): assert False
def test_skipped(): pytest.skip("no")
@pytest.fixture
def broken(): raise ValueError
def test_error(broken): pass
"""


def test_results_of_the_gpu_tests_are_counted_and_failures_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "tests" / "gpu").mkdir(parents=True)
    test_file = tmp_path / "tests" / "gpu" / "test_x.py"
    test_file.write_text(TESTS)
    monkeypatch.setattr(gpu_tests, "ROOT", tmp_path)
    path = tmp_path / "tests.json"
    gpu_tests.run_tests(path, 300)
    results = json.loads(path.read_text())
    counts = [results[key] for key in ("status", "tests", "failures", "errors", "skipped")]
    assert counts == ["failed", 4, 1, 1, 1]
    assert results["failed"] == ["tests.gpu.test_x.test_bad", "tests.gpu.test_x.test_error"]
    text = gpu_report.describe_tests(results)
    assert "1 passed, 2 failed, 1 skipped. `tests.gpu.test_x.test_bad` failed." in text
    gpu_tests.run_tests(path, 0.01)
    assert json.loads(path.read_text()) == {"status": "no time left"}
    assert path.with_suffix(".log").exists()
    monkeypatch.setattr(gpu_tests, "find_spec", lambda name: None)
    gpu_tests.run_tests(path, 300)
    text = gpu_report.describe_tests(json.loads(path.read_text()))
    assert text == "Tests that need a GPU: left out: pytest is not installed."


SLOW_TEST = """
import pytest, time
from pathlib import Path
pytestmark = pytest.mark.gpu
def test_good(): pass
{failing}
def test_slow():
    Path({mark!r}).touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("failing", ["", "def test_bad(): assert False"])
def test_interrupted_gpu_tests_keep_their_log_and_what_they_have_found(
    failing, tmp_path, monkeypatch
):
    mark = tmp_path / "slow"

    class UntilSlow(subprocess.Popen):
        def wait(self, timeout=None):
            if timeout != 300:
                return super().wait(timeout)
            while not mark.exists():
                time.sleep(0.05)
            raise subprocess.TimeoutExpired("pytest", timeout)

    (tmp_path / "tests" / "gpu").mkdir(parents=True)
    test_file = tmp_path / "tests" / "gpu" / "test_x.py"
    test_file.write_text(SLOW_TEST.format(failing=failing, mark=str(mark)))
    monkeypatch.setattr(gpu_tests, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_tests, "find_spec", lambda name: name != "xdist" or None)
    monkeypatch.setattr(subprocess, "Popen", UntilSlow)
    path = tmp_path / "tests.json"
    gpu_tests.run_tests(path, 300)
    results = json.loads(path.read_text())
    assert results["status"] == ("failed" if failing else NO_TIME)
    assert results["tests"] == 1 + bool(failing) and results["failures"] == bool(failing)
    text = gpu_report.describe_tests(results)
    assert f"1 passed, {int(bool(failing))} failed, 0 skipped. No time was left for the" in text
    assert ("test_bad - assert False" in path.with_suffix(".log").read_text()) == bool(failing)


def test_shapes_are_distinct_and_those_of_multi_scale_detectors():
    shapes = gpu_cases.image_shapes(256)
    assert len(set(shapes)) == 256
    assert all(h % 32 == 0 and w % 32 == 0 for h, w in shapes)
    short, long = zip(*(sorted(shape) for shape in shapes), strict=True)
    assert min(short) == 480 and max(short) == 800 and max(long) <= 1344
    assert sum(h > w for h, w in shapes) > 80 < sum(h < w for h, w in shapes)


@pytest.mark.parametrize("train", [False, True])
def test_many_shapes_are_timed_image_by_image_in_the_second_pass(monkeypatch, train):
    seen = []

    class Net(torch.nn.Linear):
        def __init__(self, *args, **kwargs):
            super().__init__(1, 1)

        def forward(self, x):
            seen.append((tuple(x.shape), self.training, torch.is_grad_enabled()))
            return [super().forward(x.mean().view(1, 1))]

    monkeypatch.setattr(gpu_cases, "GFNet", Net)
    settings = Settings(train=train, batch_size=2)
    record = gpu_cases.run_shapes(5, 16, asdict(settings), 64)
    assert {modes for _, *modes in map(lambda s: (s[0], s[1:]), seen) for modes in modes} == {
        (train, train)
    }
    shapes = [(2, 3, *shape) for shape in gpu_cases.image_shapes(5, 64)]
    order = [shape for shape, *_ in seen]
    assert order[:5] == shapes
    assert sorted(order[5:]) == sorted(shapes) and order[5:] != shapes
    assert len(record["latencies"]) == 5 and record["batch_size"] == 2
    assert "plan_memory" not in record


def test_precision_finds_resizing_in_half_precision(monkeypatch):
    amp = asdict(Settings(amp="bfloat16"))
    errors = gpu_cases.run_precision(24, 16, amp)
    assert max(errors[key] for key in ("resized_error", "output_error", "gradient_error")) < 2e-6
    assert 1e-4 < errors["backbone_error"] < 0.1
    assert gpu_cases.run_precision(24, 16, asdict(Settings()))["backbone_error"] < 1e-5
    for module in ("models.utils.filter_resize", "models.layers.base_filter"):
        name = f"gfnet_dense.{module}.full_precision"
        monkeypatch.setattr(name, lambda device: nullcontext(), raising=False)
    errors = gpu_cases.run_precision(24, 16, amp)
    assert min(errors.values()) > 1e-4


def sweep_of(label, *cases, gpu_name="NVIDIA H100", batch_size=1):
    machine = dict(gpu=gpu_name, driver="555.42", torch="2.13.0+cu126", python="3.11", cpu="Xeon")
    return dict(
        machine=machine, date="2026-11-26T10:00:00", complete=True, cases=list(cases),
        settings=dict(label=label, batch_size=batch_size),
    )  # fmt: skip


def case(series, size, *seconds, status=OK, **record):
    records = [dict(latencies=list(seconds), extra_memory=3 * 2**20, **record)] if seconds else []
    return dict(series=series, size=size, status=status, records=records)


def results_of_a_gpu(folder):
    """Write results as they come from a GPU; return their texts."""
    folder.mkdir(parents=True)
    shapes = [
        case(
            f"{plans} plans", count, 0.01, 0.03, 0.02,
            plans=min(plans, 8 * count), plan_memory=plans * 2**20, reserved_memory=2**30,
        )
        for plans in (0, 16) for count in (16, 128)
    ]  # fmt: skip
    errors = dict(resized_error=1e-7, output_error=2e-7, gradient_error=3e-7, backbone_error=4e-3)
    out = case("ResNet-50", 2048, status=OUT_OF_MEMORY)
    files = {
        "tests": {"status": "ok", "tests": 9, "failures": 0, "errors": 0, "skipped": 1,
                  "seconds": 3.0, "failed": []},
        "precision_TF32": sweep_of("TF32", case("errors", 136, 0, **errors)),
        "shapes_inference": sweep_of("inference", *shapes),
        "backbones_TF32": sweep_of("TF32", case("GFNet-H-Ti", 512, 0.002), out),
        "backbones_float32": sweep_of(
            "float32", case("GFNet-H-Ti", 512, 0.003, 0.005, 0.004),
            case("GFNet-H-Ti", 2048, 0.05), case("ResNet-50", 512, 0.006),
        ),
        "backbones_compiled": sweep_of(
            "compiled", case("GFNet-H-Ti", 512, 0.001, compile_seconds=31.2)
        ),
        "training_float16": sweep_of(
            "float16", case("GFNet-H-Ti", 512, status=NO_TIME), batch_size=4
        ),
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / gpu.UNFINISHED).write_text("{}")  # is no result


def test_report_has_the_machine_tables_figures_and_what_was_left_out(tmp_path):
    folder = tmp_path / "benchmarks" / "gpu"
    results_of_a_gpu(folder)
    text = gpu_report.write_report(folder, draw=True)
    assert "NVIDIA H100, driver 555.42, PyTorch 2.13.0+cu126" in text
    assert "8 passed, 0 failed, 1 skipped." in text
    assert "Compiling, with the first call, took 31 s at 512." in text
    blocks = text.split("\n\n")
    tables = {blocks[i - 1]: read_table(b) for i, b in enumerate(blocks) if b.startswith("|")}
    assert tables["Milliseconds:"] == [
        ["", "size", "float32", "TF32", "compiled"],
        ["GFNet-H-Ti", "512", "4", "2", "1"],
        ["ResNet-50", "512", "6", "", ""],
        ["GFNet-H-Ti", "2048", "50", "", ""],
        ["ResNet-50", "2048", "", OUT_OF_MEMORY, ""],
    ]
    assert tables["Milliseconds for 4 images:"][1] == ["GFNet-H-Ti", "512", NO_TIME]
    (shapes,) = (table for table in tables.values() if table[0][0] == "cache")
    assert shapes[1:3] == [["0 plans", "16", "20", "0", "0", "1024"],
                           ["16 plans", "16", "20", "16", "16", "1024"]]  # fmt: skip
    (errors,) = (table for table in tables.values() if table[0][1] == "map")
    assert errors[1] == ["TF32", "136", "1.0e-07", "2.0e-07", "3.0e-07", "4.0e-03"]
    assert blocks[-1].splitlines() == [
        "- backbones, TF32: ResNet-50 at 2048: out of memory",
        "- training, float16: GFNet-H-Ti at 512: no time left",
    ]
    figures = {path.name for path in folder.glob("*.png")}
    assert figures == {"backbones.png", "shapes_inference.png"}  # of what was measured
    assert all(is_drawn(folder / name) for name in figures)

    page = gpu_report.describe_page(folder, tmp_path)
    assert page.replace("(benchmarks/gpu/", "(") == text
    assert "(benchmarks/gpu/shapes_inference.png)" in page
    for name in figures:
        (folder / name).unlink()
    assert "![" not in gpu_report.write_report(folder, draw=False)


def test_page_says_that_no_gpu_has_run_the_code_until_one_has(tmp_path):
    assert "No GPU has run this code yet" in gpu_report.describe_page(tmp_path / "no", tmp_path)
    docs = ROOT / "docs"
    block = gpu_report.describe_page(gpu.RESULTS, docs)
    page = (docs / "benchmarks.md").read_text()
    assert f"<!-- gpu -->\n{block}\n<!-- end -->" in page, "run .dev/benchmark_report.py"
