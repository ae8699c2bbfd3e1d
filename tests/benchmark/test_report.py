import csv
import math
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gfnet_dense.benchmark.measure import Settings, check_settings, measure
from gfnet_dense.benchmark.report import (
    draw_plot,
    fit_exponent,
    format_exponents,
    format_ratios,
    format_table,
    present,
    rank,
    summarize,
    write_csv,
    write_plot,
)
from gfnet_dense.benchmark.sweep import Case, run_sweep
from gfnet_dense.utils.errors import InputError


def record(*latencies, extra=2**20, **more):
    return dict(latencies=latencies, extra_memory=extra, peak_memory=2**30, batch_size=2, **more)


def entry(series, size, *records, status="ok"):
    return dict(series=series, size=size, status=status, records=records)


RESULTS = {
    "cases": [
        entry("slow", 10, record(0.4, params=7_000_000, flops=3e9)),
        entry(
            "GFNet-X",
            10,
            record(0.1, 0.2, 0.9, extra=3 * 2**20),
            record(0.15, 0.3, extra=5 * 2**20, shares={"backbone": 0.75}, difference=1.5e-7),
        ),
        entry("GFNet-X", 20, record(0.8)),
        entry("slow", 20, status="out of memory"),
        entry("GFNet-X", 40, record(3.2)),
        entry("slow", 40, status="skipped: out of memory at 20"),
        entry("broken", 10, status="failed: ValueError: a, b | c"),
    ]
}


def test_summary_has_medians_extremes_and_ratios():
    rows = summarize(RESULTS, "GFNet-X")
    assert [(row["series"], row["size"]) for row in rows[:3]] == [
        ("GFNet-X", 10),
        ("slow", 10),
        ("broken", 10),
    ]
    ours, slow, broken = rows[:3]
    # The five times are 0.1, 0.15, 0.2, 0.3, 0.9.
    assert (ours["latency"], ours["latency_min"], ours["latency_max"]) == (0.2, 0.1, 0.9)
    assert ours["images_per_second"] == 2 / 0.2 and ours["extra_memory"] == 4 * 2**20
    assert ours["backbone"] == 0.75 and ours["difference"] == 1.5e-7
    assert ours["ratio"] == 1 and slow["ratio"] == pytest.approx(2)
    assert broken == {"series": "broken", "size": 10, "status": "failed: ValueError: a, b | c"}


def test_table_has_a_row_for_each_case():
    lines = format_table(summarize(RESULTS, "GFNet-X"), "GFNet-X").splitlines()
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    assert cells[0] == [
        *("|", "size", "ms", "min", "max", "images/s", "extra MiB", "peak MiB", "M params"),
        *("GFLOPs", "difference", "% backbone", "x GFNet-X", "status |"),
    ]
    assert cells[2][:8] == ["| GFNet-X", "10", "200", "100", "900", "10", "4", "1024"]
    assert cells[2][8:] == ["", "", "1.5e-07", "75", "1", "ok |"]
    assert cells[3][8:] == ["7", "3", "", "", "2", "ok |"]
    assert cells[6] == ["| slow", "20", *[""] * 11, "out of memory |"]
    assert len({len(line) for line in lines}) == 1


def test_table_of_a_single_series_has_no_ratio_column():
    rows = summarize({"cases": RESULTS["cases"][1:3]}, "GFNet-H-Ti")
    assert "x GFNet" not in format_table(rows, "GFNet-H-Ti")


def cells_of(table):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


MACHINE = dict(cpu="EPYC", cores=4, threads=2, gpu="H100", instructions="AVX2", torch="2.13.0")


@pytest.mark.parametrize(
    "settings, left_out, text",
    [
        (dict(), [], "EPYC, AVX2, 2 threads of 4 cores, PyTorch 2.13.0"),
        (dict(threads=1, device="cpu"), [], "EPYC, AVX2, 1 thread of 4 cores, PyTorch 2.13.0"),
        (dict(threads=None), ["instructions"], "EPYC, 2 threads of 4 cores, PyTorch 2.13.0"),
        (dict(device="cuda:1"), [], "H100, EPYC, AVX2, 2 threads of 4 cores, PyTorch 2.13.0"),
    ],
)
def test_text_ends_with_the_machine_also_for_files_without_the_instruction_set(
    settings, left_out, text
):
    machine = {key: value for key, value in MACHINE.items() if key not in left_out}
    settings = dict(settings, command="backbones")
    results = dict(cases=[entry("a", 512, record(0.1))], settings=settings, machine=machine)
    assert present(results)[1].endswith(f"\n\nMeasured on {text}.")


def test_compiled_times_have_columns_and_ratios_of_their_own():
    settings = dict(command="model", config="configs/ours.py")
    plain = [entry("ours", 512, record(0.1)), entry("a", 512, record(0.4))]
    plain += [entry("b", 512, record(0.3)), entry("c", 512, record(0.5))]
    compiled = [
        entry("ours", 512, record(0.08, compile_seconds=30.0)),
        entry("a", 512, record(0.2, compile_seconds=70.0)),
        entry("b", 512, status="failed: Unsupported: item"),
    ]
    rows, text, _ = present(
        dict(cases=plain, settings=settings, machine=MACHINE),
        dict(cases=compiled, settings=settings, machine=MACHINE),
    )
    table, _, ratios, title, compiled_ratios, _ = text.split("\n\n")
    heading, *lines = cells_of(table)
    kept = [heading.index(name) for name in ("ms", "compiled ms", "compile s", "status")]
    assert [[line[0], *(line[i] for i in kept)] for line in lines] == [
        ["ours", "100", "80", "30", "ok"],
        ["b", "300", "", "", "ok; compiled: failed: Unsupported: item"],
        ["a", "400", "200", "70", "ok"],
        ["c", "500", "", "", "ok"],
    ]
    assert cells_of(ratios) == [["", "512"], ["b", "3"], ["a", "4"], ["c", "5"]]
    assert title == "Time over that of ours, all under torch.compile, by size:"
    assert cells_of(compiled_ratios) == [["", "512"], ["a", "2.5"], ["b", "failed"]]
    assert "compiled" not in rows[0]


def test_ratio_table_has_a_row_for_each_other_series():
    lines = format_ratios(summarize(RESULTS, "GFNet-X"), "GFNet-X").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "10", "20", "40"]
    assert cells[2] == ["slow", "2", "out of memory", "skipped"]
    assert cells[3] == ["broken", "failed", "", ""]
    assert format_ratios(summarize(RESULTS), "nobody") == ""


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_fitted_exponents_are_those_of_synthetic_latencies(exponent):
    sizes = (100, 512, 1024, 2048, 4096)
    times = [9.0, *(3e-9 * (size**2) ** exponent for size in sizes[1:])]  # the first is an outlier
    cases = [entry("a", s, record(t)) for s, t in zip(sizes, times, strict=True)]
    cases += [entry("b", 512, record(1.0)), entry("b", 1024, status="time limit")]
    rows = summarize({"cases": cases})
    assert fit_exponent(rows, "a", 512, 4096) == pytest.approx(exponent)
    assert fit_exponent(rows, "a", 100, 4096) != pytest.approx(exponent, abs=0.1)
    assert math.isnan(fit_exponent(rows, "b", 512, 4096))
    lines = format_exponents(rows, 512, 2048, {"a": 1}).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert len(lines) == 3
    assert cells == ["", "a", "512 to 2048", f"{exponent:.2f}", "1", ""]
    assert "theory" not in format_exponents(rows, 512, 2048)
    assert format_exponents(rows, 512, 512) == ""


def test_exponent_is_the_least_squares_slope():
    # log(size^2) = 0, 2, 4 and log(latency) = 0, 3, 3 in base e: slope 6 / 8
    cases = [entry("a", math.exp(i), record(math.exp(t))) for i, t in enumerate((0, 3, 3))]
    assert fit_exponent(summarize({"cases": cases}), "a", 0, 100) == pytest.approx(0.75)


def test_rank_uses_the_largest_size_that_all_series_have_reached():
    cases = [
        entry("a", 10, record(1.0)),
        entry("a", 20, record(5.0)),
        entry("a", 40, record(6.0)),
        entry("b", 10, record(2.0)),
        entry("b", 20, record(4.0)),
        entry("b", 40, status="time limit"),
        entry("none", 10, status="failed: no"),
    ]
    assert rank(summarize({"cases": cases})) == ["b", "a", "none"]
    assert rank(summarize({"cases": cases[-1:]})) == ["none"]


class Sleeping(nn.Module):
    def forward(self, x):
        time.sleep(0.1)
        return x


def run_slow_or_identity(size, slow):
    return measure(Sleeping() if slow else nn.Identity(), (torch.ones(1, size),), Settings())


def test_a_deliberately_slow_module_ranks_last(tmp_path):
    cases = [Case(f"slow {s}", 1, run_slow_or_identity, {"slow": s}) for s in (True, False)]
    rows = summarize(run_sweep(cases, tmp_path / "r.json", 1, 60), "slow False")
    assert rank(rows) == ["slow False", "slow True"]
    assert rows[-1]["series"] == "slow True" and rows[-1]["latency"] > 0.09
    assert rows[-1]["ratio"] == rows[-1]["latency"] / rows[0]["latency"] > 1


def test_csv_holds_every_row(tmp_path):
    rows = summarize(RESULTS, "GFNet-X")
    write_csv(rows, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["series"] for row in read] == [row["series"] for row in rows]
    assert float(read[0]["latency"]) == 0.2 and float(read[0]["extra_memory"]) == 4 * 2**20
    assert read[2]["status"] == "failed: ValueError: a, b | c" and read[2]["latency"] == ""


def test_plot_has_a_line_and_a_label_for_each_series(tmp_path):
    figure = draw_plot(summarize(RESULTS, "GFNet-X"), "pixels")
    latency, memory = figure.axes
    assert latency.get_xscale() == latency.get_yscale() == memory.get_yscale() == "log"
    lines = {line.get_gid(): line for line in latency.lines if line.get_gid()}
    assert set(lines) == {"GFNet-X", "slow", "broken"}
    np.testing.assert_allclose(
        lines["GFNet-X"].get_xydata(), [[100, 200], [400, 800], [1600, 3200]]
    )
    assert lines["GFNet-X"].get_linewidth() > lines["slow"].get_linewidth()
    assert lines["slow"].get_label() == "slow\n(out of memory at 20)"
    assert lines["broken"].get_label() == "broken\n(failed at 10)"
    crosses = [line.get_xydata().tolist() for line in latency.lines if line.get_marker() == "X"]
    assert crosses == [[], [[100, 400]]]  # for broken, for slow
    colors = [line.get_color() for line in lines.values()]
    assert len(set(colors)) == 3
    texts = [text.get_text().partition("\n")[0] for text in figure.legends[0].get_texts()]
    assert texts == ["broken", "slow", "GFNet-X"]  # the slowest on top

    write_plot(figure, tmp_path / "plot.png")
    assert np.asarray(Image.open(tmp_path / "plot.png").convert("L")).std() > 10
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")


def test_plot_without_measurements_is_written(tmp_path):
    rows = summarize({"cases": RESULTS["cases"][-1:]})
    write_plot(draw_plot(rows, "pixels"), tmp_path / "plot.png")
    assert (tmp_path / "plot.svg").exists()


@pytest.mark.parametrize(
    "settings, text",
    [
        (dict(device="tpu"), "cpu, cuda or cuda:NUMBER, got 'tpu'"),
        (dict(device="meta"), "cpu, cuda or cuda:NUMBER, got 'meta'"),
        (dict(device="cuda:99"), "cuda:99 was not found"),
        (dict(threads=0), "threads is 1 or more, got 0"),
        (dict(batch_size=-1), "batch_size is 1 or more, got -1"),
        (dict(amp="float8"), "auto, float16, bfloat16, got 'float8'"),
        (dict(amp="float16"), "float16 needs a GPU"),
        (dict(tf32=True), "TF32 is a format of NVIDIA's GPUs, got the device cpu"),
    ],
)
def test_invalid_settings_are_rejected(settings, text):
    check_settings(Settings())
    with pytest.raises(InputError, match=text):
        check_settings(Settings(**settings))
