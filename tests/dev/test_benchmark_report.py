import json
import sys

import benchmark_report

SETTINGS = dict(command="model", config="configs/ours.py")
MACHINE = dict(cpu="EPYC", cores=2, threads=2, torch="2.13.0")
PAGE = "# Page\n\n<!-- model -->\nold\n<!-- end -->\n\nText\n\n<!-- gpu -->\nold\n<!-- end -->\n"


def results(**seconds):
    cases = [
        dict(
            series=series,
            size=512,
            status="ok",
            records=[dict(latencies=[t], extra_memory=2**20, peak_memory=2**30, batch_size=1)],
        )
        for series, t in seconds.items()
    ]
    return json.dumps(dict(settings=SETTINGS, cases=cases, machine=MACHINE))


def test_compiled_results_go_into_the_table_of_the_others(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "benchmarks" / "model.json").write_text(results(ours=0.1, other=0.5))
    (tmp_path / "benchmarks" / "model_compiled.json").write_text(results(ours=0.1, other=0.3))
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE)
    monkeypatch.setattr(benchmark_report, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark_report.py"])
    benchmark_report.main()
    lines = page.read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    heading, _, ours, other = rows[:4]
    assert heading[:6] == ["", "size", "ms", "min", "max", "compiled ms"]
    assert [ours[5], other[5]] == ["100", "300"] and other[heading.index("x ours")] == "5"
    assert "Time over that of ours, all under torch.compile, by size:" in lines
    assert [file.name for file in (tmp_path / "images").glob("*.png")] == ["benchmark_model.png"]
